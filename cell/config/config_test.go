package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
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
fill: 2MiB
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
		CacheDir: dir + "/cache", Quota: 20e9, Socket: "/run/x.sock", Tier: "tree", RunDir: dir + "/mounts", ScrubRate: 1 << 20, FillRate: 2 << 20, Grace: 72 * time.Hour,
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
	if o.Socket != control.DefaultSocket || o.Metrics != cell.DefaultMetrics || o.ScrubRate == 0 || o.FillRate == 0 || o.Quota != 0 {
		t.Errorf("%+v", o)
	}
}

// pemFiles writes a certificate and its key, which is its own authority.
func pemFiles(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// The fleet is told only over mutual TLS: all of its settings, or none.
func TestFleet(t *testing.T) {
	const settings = `
name: z1
garden: 127.0.0.1:7777
fleet: {listen: "0.0.0.0:8443", cert: cert.pem, key: key.pem, ca: cert.pem}
`
	path := write(t, "cell.yaml", full+settings)
	pemFiles(t, filepath.Dir(path))
	o, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if o.CellName != "z1" || o.Garden == nil || o.Fleet.Listen != "0.0.0.0:8443" || o.Fleet.TLS.ClientAuth != tls.RequireAndVerifyClientCert || o.Fleet.TLS.ClientCAs == nil {
		t.Errorf("%+v", o)
	}
	for name, tc := range map[string]struct{ old, new, want string }{
		"no ca":        {", ca: cert.pem", "", "fleet.ca: missing"},
		"no cert":      {"cert: cert.pem,", "", "fleet.cert: missing"},
		"nothing":      {`{listen: "0.0.0.0:8443", cert: cert.pem, key: key.pem, ca: cert.pem}`, "{}", "fleet.listen: missing"},
		"another file": {"key: key.pem", "key: cell.yaml", "fleet: TLS certificate"},
		"empty ca":     {"ca: cert.pem", "ca: key.pem", "holds no PEM certificate"},
		"no port":      {"0.0.0.0:8443", "0.0.0.0", "fleet.listen: "},
		"garden":       {"garden: 127.0.0.1:7777", "garden: http://garden", "garden: no address of a Garden"},
		"setting":      {"listen:", "address:", `there is no setting "address"`},
	} {
		if err := os.WriteFile(path, []byte(strings.Replace(full+settings, tc.old, tc.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(path); !errors.Is(err, config.ErrInvalid) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// Keys may stand in the configuration itself.
func TestKeysInline(t *testing.T) {
	path := write(t, "cell.json", "")
	pem, err := os.ReadFile(filepath.Join(filepath.Dir(path), "a.example.org.pub"))
	if err != nil {
		t.Fatal(err)
	}
	load := func(key string) (cell.Options, error) {
		text, err := json.Marshal(map[string]any{"cache": "/c", "repositories": []any{map[string]any{
			"name": "a.example.org", "servers": []string{"http://s/"}, "keys": []string{key}, "mountpoint": "/m",
		}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return config.Load(path)
	}
	k, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	o, err := load("\n" + string(pem) + string(pem))
	if err != nil || len(o.Repositories[0].Keys) != 2 || !o.Repositories[0].Keys[0].Equal(&k.master.PublicKey) {
		t.Errorf("%v %+v", err, o.Repositories)
	}
	for _, bad := range []string{
		strings.Replace(string(pem), "PUBLIC", "PRIVATE", 2),
		string(pem) + strings.Repeat("x", 512<<10),
	} {
		if _, err := load(bad); !errors.Is(err, config.ErrInvalid) || !strings.Contains(err.Error(), "repositories[0].keys: public key: ") {
			t.Errorf("%.300v", err)
		}
	}
}

func TestMistakes(t *testing.T) {
	_, after, _ := strings.Cut(full, "repositories:")
	list := "repositories:" + after
	for name, tc := range map[string]struct{ old, new, want string }{
		"unknown setting":          {"quota:", "qouta:", `line 3: there is no setting "qouta"`},
		"unknown in repository":    {"tag:", "tags:", `line 23: there is no setting "tags"`},
		"twice":                    {"quota: 20GB", "cache: other", "already defined"},
		"size":                     {"20GB", "much", `line 3: "much" is no size`},
		"negative size":            {"20GB", "-1", `"-1" is no size`},
		"time":                     {"72h", "72", `line 11: "72" is no time`},
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
