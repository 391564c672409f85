package check_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/publisher/check"
	"github.com/rootstock-cf/rootstock/store/local"
)

// golden is the directory of the repositories that stock CernVM-FS wrote.
func golden(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("ROOTSTOCK_GOLDEN")
	if dir == "" {
		dir = "../../../shared/golden"
	}
	if _, err := os.Stat(dir); err != nil {
		for _, up := range []string{"../../../../shared/golden"} {
			if _, err := os.Stat(up); err == nil {
				return up
			}
		}
		t.Skipf("SKIPPED: the golden repositories are not at %s; set ROOTSTOCK_GOLDEN: %v", dir, err)
	}
	return dir
}

// during is a time at which the golden whitelists count.
func during() time.Time { return time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC) }

func runGolden(t *testing.T, dir, keyFile string) []check.Finding {
	t.Helper()
	keys, err := manifest.LoadPublicKeys(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	st, err := local.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	found, _ := run(t, check.Options{Store: st, Masters: keys, Tags: true, Now: during})
	return found
}

func TestStockRepositoriesAreWhole(t *testing.T) {
	dir := golden(t)
	for _, set := range []string{"basic", "nested", "chunked", "chunkeddef", "shake128", "uncompressed", "tags", "tagsgc"} {
		keys, err := filepath.Glob(filepath.Join(dir, set, "keys", "*.pub"))
		if err != nil || len(keys) != 1 {
			t.Fatal(keys, err)
		}
		for _, f := range runGolden(t, filepath.Join(dir, set, "repo"), keys[0]) {
			if !f.Warning || set != "tagsgc" { // stock garbage collection leaves the reflog unsigned
				t.Errorf("%s: %v", set, f)
			}
		}
	}
}

func TestStockRepositoriesThatAreBroken(t *testing.T) {
	dir := golden(t)
	for set, want := range map[string]string{
		"good":                        "",
		"ok-whitelist-two-certs":      "",
		"cert-tampered":               "certificate: data/",
		"chunk-tampered":              `content: "/chunked": data/`,
		"file-appended":               `content: "/file": data/`,
		"file-tampered":               `content: "/file": data/`,
		"file-truncated":              `content: "/file": data/`,
		"manifest-body-tampered":      "manifest: .cvmfspublished: bad signature",
		"manifest-foreign-cert":       "whitelist: .cvmfswhitelist: the manifest's certificate",
		"manifest-truncated":          "manifest: .cvmfspublished: malformed",
		"nestedcatalog-tampered":      `catalog: "/nest": data/`,
		"rootcatalog-tampered":        `catalog: "/": data/`,
		"whitelist-expired":           "whitelist: .cvmfswhitelist: it expired",
		"whitelist-foreign-masterkey": "signature: .cvmfswhitelist: ",
	} {
		found := runGolden(t, filepath.Join(dir, "fail", set), filepath.Join(dir, "fail/keys/fail.golden.cf.pub"))
		if want == "" {
			if len(found) > 0 {
				t.Errorf("%s: %v", set, found)
			}
			continue
		}
		if len(found) == 0 || !strings.HasPrefix(found[0].String(), want) {
			t.Errorf("%s: %v, want %q", set, found, want)
		}
	}
}
