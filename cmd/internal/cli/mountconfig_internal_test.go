package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
)

// configured is what a mount does by a stock client's files and its flags.
type configured struct {
	Name, Proxies, Fallback, ExternalProxies string
	Servers, External, Keys                  []string
	Timeout, Direct                          time.Duration
	Retries                                  int
	Cache, Blacklist, Tag                    string
	Quota                                    int64
	Date                                     time.Time
	RootHash                                 object.Hash
	MaxTTL                                   time.Duration
	FollowTTL, Still                         bool
	Owner                                    *client.Owner
}

// Each parameter of a stock client's files comes to what is mounted, and a flag
// goes before it.
func TestMountConfig(t *testing.T) {
	dir := t.TempDir()
	keys, master, err := manifest.GenerateKeys("r.example.org", manifest.KeyOptions{Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Write(filepath.Join(dir, "keys"), master); err != nil {
		t.Fatal(err)
	}
	key := manifest.PublicKeyFile(filepath.Join(dir, "keys"), "r.example.org")
	const (
		base = "CVMFS_SERVER_URL=http://s/@fqrn@\nCVMFS_HTTP_PROXY=http://p:1\nCVMFS_CACHE_BASE=/c\n"
		root = "9c44ddbcf56870b191201c7e0d7072a791cd7dcb"
	)
	hash, err := object.ParseHash(root)
	if err != nil {
		t.Fatal(err)
	}
	date := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	plain := configured{
		Name: "r.example.org", Servers: []string{"http://s/r.example.org"}, Proxies: "http://p:1", ExternalProxies: "DIRECT", Keys: []string{key},
		Timeout: 5 * time.Second, Direct: 5 * time.Second, Retries: 1, Cache: "/c/rootstock/r.example.org", Quota: 1 << 30, FollowTTL: true,
	}
	for name, tc := range map[string]struct {
		text  string
		flag  string // given, and what it does:
		value string
		set   func(*mountFlags)
		want  func(*configured)
	}{
		"least":    {want: func(*configured) {}},
		"key":      {text: "CVMFS_PUBLIC_KEY=" + key + ":" + key, want: func(c *configured) { c.Keys = []string{key, key} }},
		"fallback": {text: "CVMFS_FALLBACK_PROXY=http://f:1", want: func(c *configured) { c.Fallback = "http://f:1" }},
		"times": {text: "CVMFS_TIMEOUT=7\nCVMFS_TIMEOUT_DIRECT=8\nCVMFS_MAX_RETRIES=9", want: func(c *configured) {
			c.Timeout, c.Direct, c.Retries = 7*time.Second, 8*time.Second, 9
		}},
		"quota":     {text: "CVMFS_QUOTA_LIMIT=4000", want: func(c *configured) { c.Quota = 4000 << 20 }},
		"tag":       {text: "CVMFS_REPOSITORY_TAG=v1", want: func(c *configured) { c.Tag = "v1" }},
		"date":      {text: "CVMFS_REPOSITORY_DATE=2020-01-02T03:04:05Z", want: func(c *configured) { c.Date = date }},
		"root hash": {text: "CVMFS_ROOT_HASH=" + root, want: func(c *configured) { c.RootHash = hash }},
		"TTL":       {text: "CVMFS_MAX_TTL=2", want: func(c *configured) { c.MaxTTL = 2 * time.Minute }},
		"still":     {text: "CVMFS_AUTO_UPDATE=no", want: func(c *configured) { c.Still = true }},
		"owner": {text: "CVMFS_CLAIM_OWNERSHIP=yes", want: func(c *configured) {
			c.Owner = &client.Owner{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())} // #nosec G115 -- the kernel's are 32 bits
		}},
		"blacklist": {text: "CVMFS_BLACKLIST=/b", want: func(c *configured) { c.Blacklist = "/b" }},
		"external": {text: "CVMFS_EXTERNAL_URL=http://e\nCVMFS_EXTERNAL_HTTP_PROXY=http://ep:1", want: func(c *configured) {
			c.External, c.ExternalProxies = []string{"http://e"}, "http://ep:1"
		}},

		"--url":   {flag: "url", value: "http://u/@fqrn@", set: func(f *mountFlags) { f.urls = []string{"http://u/@fqrn@"} }, want: func(c *configured) { c.Servers = []string{"http://u/r.example.org"} }},
		"--proxy": {text: "CVMFS_FALLBACK_PROXY=http://f:1", flag: "proxy", value: "DIRECT", set: func(f *mountFlags) { f.Proxies = "DIRECT" }, want: func(c *configured) { c.Proxies = "DIRECT" }},
		"--key":   {text: "CVMFS_PUBLIC_KEY=/nosuch", flag: "key", value: key, set: func(f *mountFlags) { f.keys = []string{key} }, want: func(*configured) {}},
		"--cache": {flag: "cache", value: "/d", set: func(f *mountFlags) { f.CacheDir = "/d" }, want: func(c *configured) { c.Cache = "/d" }},
		"--quota": {text: "CVMFS_QUOTA_LIMIT=4000", flag: "quota", value: "5", set: func(f *mountFlags) { f.quotaMB = 5 }, want: func(c *configured) { c.Quota = 5 << 20 }},
		"--external-url": {text: "CVMFS_EXTERNAL_URL=http://e", flag: "external-url", value: "http://x", set: func(f *mountFlags) { f.External = []string{"http://x"} }, want: func(c *configured) {
			c.External, c.ExternalProxies = []string{"http://x"}, ""
		}},
		"--blacklist": {text: "CVMFS_BLACKLIST=/b", flag: "blacklist", value: "/x", set: func(f *mountFlags) { f.Blacklist = "/x" }, want: func(c *configured) { c.Blacklist = "/x" }},
		"--tag":       {text: "CVMFS_ROOT_HASH=" + root, flag: "tag", value: "v2", set: func(f *mountFlags) { f.Tag = "v2" }, want: func(c *configured) { c.Tag = "v2" }},
		"--date": {text: "CVMFS_REPOSITORY_TAG=v1", flag: "date", value: "2020-01-02T03:04:05Z", set: func(f *mountFlags) { f.date = "2020-01-02T03:04:05Z" }, want: func(c *configured) {
			c.Date = date
		}},
		"--root-hash": {text: "CVMFS_REPOSITORY_TAG=v1", flag: "root-hash", value: root, set: func(f *mountFlags) { f.root = root }, want: func(c *configured) { c.RootHash = hash }},
		"--refresh":   {flag: "refresh", value: "1s", set: func(f *mountFlags) { f.Refresh = time.Second }, want: func(c *configured) { c.FollowTTL = false }},
	} {
		if err := os.WriteFile(filepath.Join(dir, "default.local"), []byte(base+tc.text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := newMount()
		cmd.Flags().String(configFlag, dir, "") // that of the program
		var f mountFlags
		f.Name, f.Log = "r.example.org", logger(&bytes.Buffer{}, false)
		if tc.flag != "" {
			if err := cmd.Flags().Set(tc.flag, tc.value); err != nil {
				t.Fatal(err)
			}
			tc.set(&f)
		}
		if err := f.configure(cmd); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := plain
		tc.want(&want)
		got := configured{
			Name: f.Name, Proxies: f.Proxies, Fallback: f.Network.FallbackProxies, ExternalProxies: f.ExternalProxies,
			Servers: f.Servers, External: f.External, Keys: f.keys, Timeout: f.Network.Timeout, Direct: f.Network.TimeoutDirect,
			Retries: f.Network.Retries, Cache: f.CacheDir, Blacklist: f.Blacklist, Tag: f.Tag, Quota: f.Quota, Date: f.Date,
			RootHash: f.RootHash, MaxTTL: f.MaxTTL, FollowTTL: f.FollowTTL, Still: f.Still, Owner: f.Owner,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
