package config_test

import (
	"crypto/rsa"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/config"
	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/manifest"
)

type pair struct {
	keys   *manifest.Keys
	master *rsa.PrivateKey
}

// Made once: it takes longer than all else here.
var keys = sync.OnceValues(func() (pair, error) {
	k, master, err := manifest.GenerateKeys("a.example.org", manifest.KeyOptions{Bits: 2048})
	return pair{k, master}, err
})

// write makes a directory with a configuration and a key.
func write(t *testing.T, name, text string) string {
	t.Helper()
	dir := t.TempDir()
	k, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	if err := k.keys.Write(dir, k.master); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const full = `
cache: cache
quota: 20GB
socket: /run/x.sock
metrics: off
tier: tree
run: mounts
blacklist: /etc/withdrawn
scrub: 1MiB
grace: 72h
refresh: 10s
timeout: 3s
hedge: true
requests: 8
bandwidth: 50MB
proxies: "http://p:3128;DIRECT"
repositories:
- name: a.example.org
  servers: ["http://s1/cvmfs/@fqrn@", "https://s2/x"]
  keys: [a.example.org.pub]
  mountpoint: /cvmfs/a.example.org
  tag: stable
- name: b.example.org
  servers: [http://s1/b]
  proxies: DIRECT
  root_hash: 0123456789abcdef0123456789abcdef01234567
  mountpoint: mnt
  refresh: 1m
`

func TestLoad(t *testing.T) {
	path := write(t, "cell.yaml", full)
	o, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(path)
	network := fetch.Config{
		Timeout: 3 * time.Second, TimeoutDirect: 3 * time.Second, Hedge: true, Concurrency: 8, Bandwidth: fetch.NewBandwidth(50e6),
	}
	want := cell.Options{
		CacheDir: dir + "/cache", Quota: 20e9, Socket: "/run/x.sock", Tier: "tree", RunDir: dir + "/mounts", ScrubRate: 1 << 20, Grace: 72 * time.Hour,
		Repositories: []cell.Repository{
			{
				Name: "a.example.org", Servers: []string{"http://s1/cvmfs/a.example.org", "https://s2/x"},
				Proxies: "http://p:3128;DIRECT", Mountpoint: "/cvmfs/a.example.org", Tag: "stable", Blacklist: "/etc/withdrawn",
				Refresh: 10 * time.Second, Network: network,
			},
			{
				Name: "b.example.org", Servers: []string{"http://s1/b"}, Proxies: "DIRECT", Mountpoint: dir + "/mnt", Blacklist: "/etc/withdrawn",
				Refresh: time.Minute, Network: network,
			},
		},
	}
	if diff := cmp.Diff(want, o, cmpopts.IgnoreFields(cell.Repository{}, "Keys", "RootHash"), cmpopts.IgnoreFields(cell.Options{}, "Clock", "Log"),
		cmp.Comparer(func(a, b *fetch.Bandwidth) bool { return reflect.DeepEqual(a, b) })); diff != "" {
		t.Error(diff)
	}
	if o.Repositories[0].Network.Bandwidth != o.Repositories[1].Network.Bandwidth {
		t.Error("each repository has a bandwidth of its own")
	}
	if len(o.Repositories[0].Keys) != 1 || o.Repositories[1].RootHash.IsZero() {
		t.Errorf("%+v", o.Repositories)
	}
}

// What is not said has a default, and JSON is as good.
func TestDefaults(t *testing.T) {
	o, err := config.Load(write(t, "cell.json",
		`{"cache": "/c", "repositories": [{"name": "a.example.org", "servers": ["http://s/"], "keys": ["a.example.org.pub"], "mountpoint": "/m"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if o.Socket != control.DefaultSocket || o.Metrics != cell.DefaultMetrics || o.ScrubRate == 0 || o.Quota != 0 {
		t.Errorf("%+v", o)
	}
}

func TestMistakes(t *testing.T) {
	_, after, _ := strings.Cut(full, "repositories:")
	list := "repositories:" + after
	for name, tc := range map[string]struct{ old, new, want string }{
		"unknown setting":          {"quota:", "qouta:", `line 3: there is no setting "qouta"`},
		"unknown in repository":    {"tag:", "tags:", `line 22: there is no setting "tags"`},
		"twice":                    {"quota: 20GB", "cache: other", "already defined"},
		"size":                     {"20GB", "much", `line 3: "much" is no size`},
		"negative size":            {"20GB", "-1", `"-1" is no size`},
		"time":                     {"72h", "72", `line 10: "72" is no time`},
		"open metrics":             {"metrics: off", "metrics: 0.0.0.0:9868", "metrics: \"0.0.0.0\" is not a loopback address"},
		"metrics without a port":   {"metrics: off", "metrics: 127.0.0.1", "metrics: "},
		"tier":                     {"tier: tree", "tier: trees", `tier: "trees" is not one of`},
		"no cache":                 {"cache: cache", "", "cache: missing"},
		"name":                     {"- name: a.example.org", "- name: ../etc", "repositories[0].name: "},
		"two of a name":            {"- name: b.example.org", "- name: a.example.org", "repositories[1].name: a.example.org is that of repositories[0] already"},
		"one mountpoint for two":   {"mountpoint: mnt", "mountpoint: /cvmfs/a.example.org", "repositories[1].mountpoint: /cvmfs/a.example.org is that of"},
		"server":                   {"http://s1/b", "ftp://s1/b", `repositories[1].servers[0]: "ftp://s1/b" is no http`},
		"proxies":                  {"proxies: DIRECT", "proxies: auto", `repositories[1].proxies: proxy "auto"`},
		"key is absent":            {"[a.example.org.pub]", "[b.pub]", "repositories[0].keys: "},
		"key is none":              {"[a.example.org.pub]", "[cell.yaml]", "repositories[0].keys: "},
		"no key":                   {"keys: [a.example.org.pub]", "keys: []", "without a.example.org.pub nothing a server says can be verified"},
		"root hash":                {"0123456789abcdef0123456789abcdef01234567", "0123", "repositories[1].root_hash: "},
		"tag and root hash":        {"  tag: stable", "  tag: stable\n  root_hash: 0123456789abcdef0123456789abcdef01234567", "repositories[0].tag: "},
		"more than one document":   {"repositories:", "---\nrepositories:", ": "},
		"a list for a text":        {"cache: cache", "cache: [a, b]", "line 2: "},
		"bomb of aliases":          {"cache: cache", "cache: cache\nx: &a [1]\ny: [*a, *a]", `there is no setting "x"`},
		"repositories are missing": {list, "", "repositories: none"},
	} {
		_, err := config.Load(write(t, "cell.yaml", strings.Replace(full, tc.old, tc.new, 1)))
		if !errors.Is(err, config.ErrInvalid) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "cell.yaml") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := config.Load(write(t, "cell.yaml", "")); !errors.Is(err, config.ErrInvalid) || !strings.Contains(err.Error(), "it is empty") {
		t.Errorf("empty: %v", err)
	}
	if _, err := config.Load(write(t, "cell.yaml", strings.Repeat("#", 1<<20+1))); !errors.Is(err, config.ErrInvalid) {
		t.Errorf("too large: %v", err)
	}
	if _, err := config.Load("nowhere/cell.yaml"); err == nil || !strings.Contains(err.Error(), "nowhere/cell.yaml") {
		t.Errorf("absent: %v", err)
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1048576": 1 << 20, "500MB": 500e6, "20 GiB": 20 << 30, "1.5KiB": 1536, "7B": 7, "2TB": 2e12,
		"-1": -1, "NaN": -1, "1e30": -1, "Inf": -1, "": -1, "GB": -1, "5 bananas": -1,
	} {
		got, err := config.ParseSize(text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
}
