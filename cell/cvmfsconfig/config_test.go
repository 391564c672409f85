package cvmfsconfig_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/cell/cvmfsconfig"
)

// files writes a configuration directory.
func files(t *testing.T, content map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range content {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		`K=v`:                           "v",
		`  K=v  `:                       "v",
		`export K=v`:                    "v",
		`readonly K=v`:                  "v",
		`K="a b"`:                       "a b",
		`K='a $X "b"'`:                  `a $X "b"`,
		`K="a"'b'c`:                     "abc",
		`K="a\"b\$c\x"`:                 `a"b$c\x`,
		`K=a\ b`:                        "a b",
		`K=v # comment`:                 "v",
		`K="v # no comment"`:            "v # no comment",
		`K=v#none`:                      "v#none",
		`K=`:                            "",
		`K=""`:                          "",
		`K=a=b`:                         "a=b",
		`K=http://a|http://b;DIRECT`:    "http://a|http://b;DIRECT",
		"K=v\r\n":                       "v",
		"K=v\t# comment":                "v",
		"K=# comment":                   "",
		"# comment \\\nK=v":             "v",
		"K=\"a\\\\\"":                   `a\`,
		"K=\"a;\\\nb\"":                 "a;b",
		"K=1\nK=2":                      "2",
		"X=x\nK=$X-${X}-${Y:-d}-$Y.":    "x-x-d-.",
		"X=x\nK=\"<$X>\"":               "<x>",
		"K=100$":                        "100$",
		"K=${K:-first}\nK=${K:-second}": "first",
		"# K=1\n\n   # K=2\nK=3":        "3",
		"if [ \"x$A\" = \"x\" ]; then\n  readonly K=unset\nfi":                      "unset",
		"A=1\nif [ \"x$A\" = \"x\" ]; then\n K=unset\nelse\n K=set\nfi":             "set",
		"A=b\nif [ $A = a ]; then\nK=a\nelif [ $A = b ]; then\nK=b\nelse\nK=c\nfi":  "b",
		"A=c\nif [ $A = a ]; then\nK=a\nelif [ $A = b ]; then\nK=b\nelse\nK=c\nfi":  "c",
		"if [ -z \"$A\" ]\nthen\nK=z\nfi":                                           "z",
		"A=1\nif [[ -n \"$A\" ]]; then\nK=n\nfi":                                    "n",
		"K=o\nif [ a != a ]; then\nif [ a = a ]; then\nK=i\nelse\nK=j\nfi\nK=x\nfi": "o",
		"if [ a == a ]; then\nif [ a != a ]; then\nK=i\nelse\nK=j\nfi\nfi":          "j",
	} {
		c := &cvmfsconfig.Config{Name: "r.example.org", Values: map[string]cvmfsconfig.Value{}}
		if err := c.Parse("f", text); err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := c.Values["K"].Text; got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestMalformed(t *testing.T) {
	for text, where := range map[string]string{
		"K":                                   "f:1:",
		"A=1\nK v":                            "f:2:",
		"=v":                                  "f:1:",
		"1K=v":                                "f:1:",
		"K-L=v":                               "f:1:",
		"K =v":                                "f:1:",
		"K=\"a":                               "not closed",
		"K='a":                                "not closed",
		"K=${A":                               "not closed",
		"K=${A##b}":                           "more than a variable",
		"K=$(hostname)":                       "command",
		"K=`hostname`":                        "command",
		"K=\"$(hostname)\"":                   "command",
		"K=a; L=b":                            "second command",
		"K=a;\tL=b":                           "second command",
		"K=a;":                                "second command",
		". /etc/other":                        "f:1:",
		"if [ a = b ]; then\nK=1":             "not closed by fi",
		"fi":                                  "without if",
		"else":                                "without if",
		"if [ a = a ]; then\nelse\nelse\nfi":  "after else",
		"if test -f /x; then\nfi":             "condition",
		"if [ -f /x ]; then\nfi":              "condition",
		"if [ -z a b ]; then\nfi":             "condition",
		"if [ a != b c ]; then\nfi":           "condition",
		"if [ -n a b ]; then\nfi":             "condition",
		"if [ a = b c ]; then\nfi":            "condition",
		"if [ a = b; then\nfi":                "condition",
		"if [ a -gt b ]; then\nfi":            "condition",
		"if [ a = b ] && [ c = d ]; then\nfi": "condition",
		"K=v\\":                               "ends in a",
		"K=\x00":                              "NUL",
		strings.Repeat("if [ a = a ]; then\n", 40):                  "within each other",
		"K=aaaaaaaaaaaaaaaa\n" + strings.Repeat("K=\"$K$K\"\n", 30): "more than",
	} {
		c := &cvmfsconfig.Config{Name: "r.example.org", Values: map[string]cvmfsconfig.Value{}}
		err := c.Parse("f", text)
		if !errors.Is(err, cvmfsconfig.ErrSyntax) || !strings.Contains(err.Error(), where) {
			t.Errorf("%.60q: %v, want something about %q", text, err, where)
		}
	}
}

// Every file in the stock order overrides those before it.
func TestOrder(t *testing.T) {
	mounts := t.TempDir()
	order := []string{
		"default.conf", "default.d/10-a.conf", "default.d/20-b.conf", "SHARED/default.conf", "default.local",
		"SHARED/domain.d/example.org.conf", "domain.d/example.org.conf", "domain.d/example.org.local",
		"SHARED/config.d/r.example.org.conf", "config.d/r.example.org.conf", "config.d/r.example.org.local",
	}
	for n := range order {
		content := map[string]string{}
		for i, name := range order[:n+1] {
			text := "K=" + order[i] + "\n"
			if i == 0 {
				text += "CVMFS_CONFIG_REPOSITORY=config.example.org\nCVMFS_MOUNT_DIR=" + mounts + "\n"
			}
			content[name] = text
		}
		shared := filepath.Join(mounts, "config.example.org/etc/cvmfs")
		if err := os.RemoveAll(shared); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(shared), 0o755); err != nil {
			t.Fatal(err)
		}
		dir := files(t, content)
		if _, err := os.Stat(filepath.Join(dir, "SHARED")); err == nil {
			if err := os.Rename(filepath.Join(dir, "SHARED"), shared); err != nil {
				t.Fatal(err)
			}
		}
		c, err := cvmfsconfig.Read(dir, "r.example.org")
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Values["K"].Text; got != order[n] {
			t.Errorf("%s does not override: %s", order[n], got)
		}
		// Files of other repositories and domains do not count.
		other, err := cvmfsconfig.Read(dir, "r.example.net")
		if err != nil {
			t.Fatal(err)
		}
		if got := other.Values["K"].Text; strings.Contains(got, "example.org.") {
			t.Errorf("%s counts for r.example.net", got)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	dir := files(t, map[string]string{
		"default.conf":          "CVMFS_CONFIG_REPOSITORY=config.example.org\nCVMFS_MOUNT_DIR=/nonexistent\n",
		"default.local":         "CVMFS_CONFIG_REPOSITORY=evil.example.org\nK=$CVMFS_CONFIG_REPOSITORY\nCVMFS_DEFAULT_DOMAIN=example.org\n",
		"config.d/bad.x.y.conf": "what is this\n",
		"config.d/req.x.y.conf": "CVMFS_CONFIG_REPO_REQUIRED=yes\n",
		"domain.d/z.conf":       strings.Repeat("#", 1<<20+1),
	})
	c, err := cvmfsconfig.Read(dir, "short")
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "short.example.org" || c.Values["K"].Text != "config.example.org" {
		t.Errorf("%s, %+v", c.Name, c.Values["K"])
	}
	all := strings.Join(c.Notes, "\n")
	if !strings.Contains(all, "config.example.org is not mounted") || !strings.Contains(all, "default.local:1: CVMFS_CONFIG_REPOSITORY stays") {
		t.Errorf("notes: %s", all)
	}
	for name, want := range map[string]string{"bad.x.y": "bad.x.y.conf:1", "a.z": "larger than", "/etc/passwd.x": "name", "-a.b": "name"} {
		if _, err := cvmfsconfig.Read(dir, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := cvmfsconfig.Read(files(t, nil), "short"); !errors.Is(err, cvmfsconfig.ErrValue) {
		t.Errorf("a name without a domain: %v", err)
	}
	if _, err := cvmfsconfig.Read(filepath.Join(dir, "nosuch"), "a.b"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := cvmfsconfig.Read(filepath.Join(dir, "default.conf"), "a.b"); !errors.Is(err, cvmfsconfig.ErrValue) {
		t.Errorf("a file: %v", err)
	}
	required := files(t, map[string]string{"default.conf": "CVMFS_CONFIG_REPOSITORY=c.example.org\nCVMFS_CONFIG_REPO_REQUIRED=yes\nCVMFS_MOUNT_DIR=/nonexistent\n"})
	if _, err := cvmfsconfig.Read(required, "a.b"); err == nil || !strings.Contains(err.Error(), "mount it first") {
		t.Errorf("a required configuration repository: %v", err)
	}
}

// The configuration repository itself is configured by local files only, and
// where it would be mounted is said of one that is not.
func TestConfigurationRepository(t *testing.T) {
	mounts := t.TempDir()
	dir := files(t, map[string]string{"default.conf": "CVMFS_CONFIG_REPOSITORY=config.example.org\nK=local\nCVMFS_MOUNT_DIR=" + mounts + "\n"})
	shared := filepath.Join(mounts, "config.example.org/etc/cvmfs")
	if err := os.MkdirAll(shared, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(shared, "default.conf"), []byte("K=shared\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"config.example.org": "local", "r.example.org": "shared"} {
		c, err := cvmfsconfig.Read(dir, name)
		if err != nil || c.Values["K"].Text != want || len(c.Notes) != 0 {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	c, err := cvmfsconfig.Read(files(t, map[string]string{"default.conf": "CVMFS_CONFIG_REPOSITORY=nosuch.example.org\n"}), "r.example.org")
	if err != nil || len(c.Notes) != 1 || !strings.Contains(c.Notes[0], "no /cvmfs/nosuch.example.org/etc/cvmfs") {
		t.Errorf("%+v, %v", c, err)
	}
}

// base is what a configuration needs at least.
const base = "CVMFS_SERVER_URL=http://s/cvmfs/@fqrn@\nCVMFS_HTTP_PROXY=DIRECT\nCVMFS_PUBLIC_KEY=/k.pub\n"

func settings(t *testing.T, text string) (cvmfsconfig.Settings, error) {
	t.Helper()
	c, err := cvmfsconfig.Read(files(t, map[string]string{"default.local": text}), "r.example.org")
	if err != nil {
		t.Fatal(err)
	}
	return c.Settings()
}

// Each parameter changes what it is meant to change, and nothing else.
func TestSettings(t *testing.T) {
	plain, err := settings(t, base)
	if err != nil {
		t.Fatal(err)
	}
	for text, change := range map[string]func(*cvmfsconfig.Settings){
		"CVMFS_SERVER_URL='http://a/@fqrn@;http://b/@org@'": func(s *cvmfsconfig.Settings) {
			s.Servers = []string{"http://a/r.example.org", "http://b/r"}
		},
		"CVMFS_HTTP_PROXY='http://p:3128|http://q:3128;DIRECT'": func(s *cvmfsconfig.Settings) {
			s.Network.Proxies = "http://p:3128|http://q:3128;DIRECT"
		},
		"CVMFS_FALLBACK_PROXY=http://f:3128": func(s *cvmfsconfig.Settings) { s.Network.FallbackProxies = "http://f:3128" },
		"CVMFS_PUBLIC_KEY=/a.pub:/b.pub":     func(s *cvmfsconfig.Settings) { s.PublicKeys = []string{"/a.pub", "/b.pub"} },
		"CVMFS_CACHE_BASE=/c":                func(s *cvmfsconfig.Settings) { s.CacheDir = "/c/rootstock/r.example.org" },
		"CVMFS_CACHE_DIR=/d/@fqrn@":          func(s *cvmfsconfig.Settings) { s.CacheDir = "/d/r.example.org/rootstock/r.example.org" },
		"CVMFS_QUOTA_LIMIT=4000":             func(s *cvmfsconfig.Settings) { s.Quota = 4000 << 20 },
		"CVMFS_QUOTA_LIMIT=-1":               func(s *cvmfsconfig.Settings) { s.Quota = 0 },
		"CVMFS_TIMEOUT=7":                    func(s *cvmfsconfig.Settings) { s.Network.Timeout = 7 * time.Second },
		"CVMFS_TIMEOUT_DIRECT=8":             func(s *cvmfsconfig.Settings) { s.Network.TimeoutDirect = 8 * time.Second },
		"CVMFS_MAX_RETRIES=3":                func(s *cvmfsconfig.Settings) { s.Network.Retries = 3 },
		"CVMFS_MAX_RETRIES=0":                func(s *cvmfsconfig.Settings) { s.Network.Retries = -1 },
		"CVMFS_LOW_SPEED_LIMIT=10":           func(s *cvmfsconfig.Settings) { s.Network.LowSpeed = 10 },
		"CVMFS_BACKOFF_INIT=1":               func(s *cvmfsconfig.Settings) { s.Network.BackoffInit = time.Second },
		"CVMFS_BACKOFF_MAX=3":                func(s *cvmfsconfig.Settings) { s.Network.BackoffMax = 3 * time.Second },
		"CVMFS_PROXY_RESET_AFTER=60":         func(s *cvmfsconfig.Settings) { s.Network.ProxyReset = time.Minute },
		"CVMFS_HOST_RESET_AFTER=61":          func(s *cvmfsconfig.Settings) { s.Network.ServerReset = 61 * time.Second },
		"CVMFS_FOLLOW_REDIRECTS=yes":         func(s *cvmfsconfig.Settings) { s.Network.FollowRedirects = true },
		"CVMFS_REPOSITORY_TAG=v1":            func(s *cvmfsconfig.Settings) { s.Tag = "v1" },
		"CVMFS_REPOSITORY_DATE=2020-01-02T03:04:05Z": func(s *cvmfsconfig.Settings) {
			s.Date = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
		},
		"CVMFS_MAX_TTL=2":                          func(s *cvmfsconfig.Settings) { s.MaxTTL = 2 * time.Minute },
		"CVMFS_AUTO_UPDATE=no":                     func(s *cvmfsconfig.Settings) { s.AutoUpdate = false },
		"CVMFS_CLAIM_OWNERSHIP=yes":                func(s *cvmfsconfig.Settings) { s.ClaimOwnership = true },
		"CVMFS_BLACKLIST=/b":                       func(s *cvmfsconfig.Settings) { s.Blacklist = "/b" },
		"CVMFS_EXTERNAL_URL=http://e":              func(s *cvmfsconfig.Settings) { s.External = []string{"http://e"} },
		"CVMFS_EXTERNAL_HTTP_PROXY=http://ep:3128": func(s *cvmfsconfig.Settings) { s.ExternalProxy = "http://ep:3128" },
		"CVMFS_MOUNT_DIR=/m":                       func(s *cvmfsconfig.Settings) { s.Mountpoint = "/m/r.example.org" },
		"CVMFS_STRICT_MOUNT=yes\nCVMFS_DEFAULT_DOMAIN=example.org\nCVMFS_REPOSITORIES=other.example.org,r": func(*cvmfsconfig.Settings) {},
		"CVMFS_STRICT_MOUNT=yes\nCVMFS_REPOSITORIES=other.example.org,r.example.org":                       func(*cvmfsconfig.Settings) {},
		"CVMFS_STRICT_MOUNT=no\nCVMFS_REPOSITORIES=other.example.org":                                      func(*cvmfsconfig.Settings) {},
		"CVMFS_HTTP_PROXY=\nCVMFS_CLIENT_PROFILE=single":                                                   func(*cvmfsconfig.Settings) {},
	} {
		want := plain
		change(&want)
		got, err := settings(t, base+text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	got, err := settings(t, base+"CVMFS_ROOT_HASH=9c44ddbcf56870b191201c7e0d7072a791cd7dcb-shake128")
	if err != nil || got.RootHash.String() != "9c44ddbcf56870b191201c7e0d7072a791cd7dcb-shake128" {
		t.Errorf("root hash: %v, %v", got.RootHash, err)
	}
	const noKey = "CVMFS_SERVER_URL=http://s\nCVMFS_HTTP_PROXY=DIRECT\n"
	got, err = settings(t, noKey+"CVMFS_ROOT_HASH=9c44ddbcf56870b191201c7e0d7072a791cd7dcb")
	if err != nil || got.RootHash.IsZero() || len(got.PublicKeys) != 0 {
		t.Errorf("a root hash needs no key: %+v, %v", got.PublicKeys, err)
	}
	keys := files(t, map[string]string{"a.pub": "", "b.txt": ""})
	got, err = settings(t, noKey+"CVMFS_KEYS_DIR="+keys)
	if err != nil || len(got.PublicKeys) != 1 || got.PublicKeys[0] != filepath.Join(keys, "a.pub") {
		t.Errorf("a directory of keys: %q, %v", got.PublicKeys, err)
	}
}

func TestSettingsRefuse(t *testing.T) {
	for text, want := range map[string]string{
		base + "CVMFS_SERVER_URL=":               "CVMFS_SERVER_URL is not set",
		base + "CVMFS_HTTP_PROXY=":               "CVMFS_HTTP_PROXY is not set",
		base + "CVMFS_HTTP_PROXY=auto":           "default.local:4: CVMFS_HTTP_PROXY",
		base + "CVMFS_TIMEOUT=soon":              "default.local:4: CVMFS_TIMEOUT: want a whole number",
		base + "CVMFS_TIMEOUT=-1":                "must not be negative",
		base + "CVMFS_MAX_RETRIES=-2":            "want a whole number",
		base + "CVMFS_QUOTA_LIMIT=99999999999":   "CVMFS_QUOTA_LIMIT",
		base + "CVMFS_CLAIM_OWNERSHIP=perhaps":   "want yes or no",
		base + "CVMFS_ROOT_HASH=xyz":             "CVMFS_ROOT_HASH",
		base + "CVMFS_REPOSITORY_DATE=yesterday": "YYYY-MM-DD",
		base + "CVMFS_REPOSITORY_TAG=a\nCVMFS_REPOSITORY_DATE=2020-01-02T03:04:05Z": "together with CVMFS_REPOSITORY_DATE",
		base + "CVMFS_STRICT_MOUNT=yes\nCVMFS_REPOSITORIES=a.b":                     "not among them",
		"CVMFS_SERVER_URL=http://s\nCVMFS_HTTP_PROXY=DIRECT":                        "no public key",
	} {
		if _, err := settings(t, text); !errors.Is(err, cvmfsconfig.ErrValue) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// What has no effect is named, with the place to look at.
func TestUnknown(t *testing.T) {
	s, err := settings(t, base+"CVMFS_NFILES=1\nCVMSF_TIMEOUT=3\nCVMFS_TIMOUT=3\nCVMFS_CACHE_hpc_TYPE=ram\nCVMFS_USER=root\nX509_CERT_DIR=/x\nX509_CERT_BUNDLE=/y\nCERNVM_UUID=z\n")
	if err != nil {
		t.Fatal(err)
	}
	unknown, unused := strings.Join(s.Unknown, " "), strings.Join(s.Unused, " ")
	if len(s.Unknown) != 2 || !strings.Contains(unknown, "CVMSF_TIMEOUT (") || !strings.Contains(unknown, "CVMFS_TIMOUT (") || !strings.Contains(unknown, "default.local:6)") {
		t.Errorf("unknown: %s", unknown)
	}
	if len(s.Unused) != 6 || !strings.Contains(unused, "CVMFS_NFILES (") || !strings.Contains(unused, "CVMFS_CACHE_hpc_TYPE") {
		t.Errorf("unused: %s", unused)
	}
}

// The files a stock client package installs, blacklist and keys found beside
// them.
func TestUsualDirectory(t *testing.T) {
	dir := files(t, map[string]string{
		"default.conf": "CVMFS_CACHE_BASE=/var/lib/cvmfs\nCVMFS_CLAIM_OWNERSHIP=yes\nif [ \"x$CVMFS_BASE_ENV\" = \"x\" ]; then\n" +
			"  readonly CVMFS_USER=cvmfs\n  readonly CVMFS_MOUNT_DIR=/cvmfs\n  readonly CVMFS_BASE_ENV=1\nfi\n",
		"domain.d/example.org.conf": "if [ \"$CVMFS_USE_CDN\" = \"yes\" ]; then\n  CVMFS_SERVER_URL=\"http://cdn/cvmfs/@fqrn@\"\nelse\n" +
			"  CVMFS_SERVER_URL=\"http://s1/cvmfs/@fqrn@;http://s2/cvmfs/@fqrn@\"\nfi\n",
		"default.local": "CVMFS_HTTP_PROXY=\"http://squid:3128\"\n",
		"keys/a.pub":    "", "keys/b.pub": "", "keys/c.txt": "", "blacklist": "",
	})
	c, err := cvmfsconfig.Read(dir, "r.example.org")
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Settings()
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Servers) != 2 || len(s.PublicKeys) != 2 || s.Blacklist != filepath.Join(dir, "blacklist") ||
		s.Mountpoint != "/cvmfs/r.example.org" || !s.ClaimOwnership || len(s.Unknown) != 0 {
		t.Errorf("%+v", s)
	}
	if v, ok := c.Lookup("CVMFS_SERVER_URL"); !ok || v != "http://s1/cvmfs/r.example.org;http://s2/cvmfs/r.example.org" {
		t.Errorf("%q, %v", v, ok)
	}
	if _, ok := c.Lookup("HOME"); ok {
		t.Error("the environment is not part of it")
	}
}

// No text makes the parser fail in another way than by its own error, and what
// it accepts has names and bounded values.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		base, "if [ \"x$A\" = \"x\" ]; then\n readonly K='v'\nelif [ -n \"$B\" ]\nthen\nK=\\\nx\nelse\nK=${A:-b}\nfi # end\n", "K=\"a\\\"", "export A=$1\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := &cvmfsconfig.Config{Name: "r.example.org", Values: map[string]cvmfsconfig.Value{}}
		if err := c.Parse("f", text); err != nil {
			if !errors.Is(err, cvmfsconfig.ErrSyntax) || !strings.Contains(err.Error(), "f:") {
				t.Fatalf("an error of another kind: %v", err)
			}
		}
		for key, v := range c.Values {
			if key == "" || strings.ContainsAny(key, " =\x00") || strings.IndexByte(v.Text, 0) >= 0 || v.Line < 1 || len(v.Text) > 3*(64<<10)+len(text) {
				t.Fatalf("%q = %q (line %d)", key, v.Text, v.Line)
			}
		}
		c.Settings() //nolint:errcheck // must not panic
	})
}
