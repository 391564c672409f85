package rootfsprovider_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/rootfsprovider"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

func TestParseConfig(t *testing.T) {
	defaults := rootfsprovider.Config{Store: rootfsprovider.DefaultStore, Socket: control.DefaultSocket, LogLevel: "info"}
	full := rootfsprovider.Config{
		Store: "/s", Socket: "/x.sock", LogLevel: "debug",
		Repositories: map[string]string{"stacks": "stacks.example.org"},
		UIDMaps:      []overlay.IDRange{{Container: 0, Host: 4294967294, Size: 1}, {Container: 1, Host: 1, Size: 4294967293}},
		GIDMaps:      []overlay.IDRange{{Container: 0, Host: 100, Size: 1}},
	}
	for text, want := range map[string]rootfsprovider.Config{
		"{}": defaults,
		`{"store":"/s","socket":"/x.sock","log_level":"debug","repositories":{"stacks":"stacks.example.org"},
		  "uid_maps":[{"container":0,"host":4294967294,"size":1},{"container":1,"host":1,"size":4294967293}],
		  "gid_maps":[{"container":0,"host":100,"size":1}]}`: full,
	} {
		got, err := rootfsprovider.ParseConfig([]byte(text))
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%s: %v\n%s", text, err, d)
		}
	}
	if l, err := full.Level(); err != nil || l != slog.LevelDebug {
		t.Errorf("Level = %v, %v", l, err)
	}
}

func TestParseConfigRefuses(t *testing.T) {
	for text, says := range map[string]string{
		"":                               "EOF",
		"[]":                             "array",
		"{} {}":                          "follows",
		`{"stor":"/x"}`:                  `"stor"`,
		`{"store":"relative"}`:           "store",
		`{"store":"/"}`:                  "store",
		`{"store":"/a/../b"}`:            "store",
		`{"store":""}`:                   "store",
		`{"socket":"cell.sock"}`:         "socket",
		`{"log_level":"loud"}`:           "log_level",
		`{"repositories":{"a/b":"c"}}`:   "repositories",
		`{"repositories":{"a":"../c"}}`:  "repositories",
		`{"wishes":{"url":"publisher"}}`: "wishes",
		`{"wishes":{"url":"https://x","token":"token"}}`:                                                  "wishes",
		`{"wishes":{"url":"https://x","ca":"ca.pem"}}`:                                                    "wishes",
		`{"uid_maps":[{"container":0,"host":1,"size":1}]}`:                                                "gid_maps",
		`{"uid_maps":[{"container":0,"host":1,"size":1}],"gid_maps":[{"container":1,"host":1,"size":1}]}`: "gid_maps",
		`{"uid_maps":[{"container":-1,"host":1,"size":1}]}`:                                               "uid_maps",
		`{"uid_maps":[{"container":0,"to":1,"size":1}]}`:                                                  `"to"`,
		`{"store":"/` + strings.Repeat("x", 1<<20) + `"}`:                                                 "longer",
	} {
		if got, err := rootfsprovider.ParseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.80s: %.80v, %v", text, got, err)
		}
	}
}

func TestReadConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	if _, err := rootfsprovider.ReadConfig(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("missing file: %v", err)
	}
	must(t, os.WriteFile(path, []byte(`{"nonsense":1}`), 0o600))
	if _, err := rootfsprovider.ReadConfig(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("unknown key: %v", err)
	}
	must(t, os.WriteFile(path, []byte(`{"store":"/s"}`), 0o600))
	if c, err := rootfsprovider.ReadConfig(path); err != nil || c.Store != "/s" {
		t.Errorf("ReadConfig = %+v, %v", c, err)
	}
}

func TestResolve(t *testing.T) {
	s := rootfsprovider.Schemes{"cvmfs": rootfsprovider.CVMFS{"stacks": "stacks.example.org"}}
	for uri, want := range map[string]reference.Reference{
		"cvmfs://stacks/rootfs/a:c":  {Repository: "stacks.example.org", Kind: reference.Rootfs, Name: "a", Channel: "c"},
		"cvmfs://stacks/rootfs/a#c":  {Repository: "stacks.example.org", Kind: reference.Rootfs, Name: "a", Channel: "c"},
		"cvmfs://other.org/rootfs/a": {Repository: "other.org", Kind: reference.Rootfs, Name: "a"},
		"cvmfs://stacks/-/some/path": {Repository: "stacks.example.org", Path: "/some/path"},
	} {
		if got, err := s.Resolve(t.Context(), uri); err != nil || len(got.Refs) != 1 || got.Refs[0] != want {
			t.Errorf("%s: %+v, %v", uri, got, err)
		}
	}
}
