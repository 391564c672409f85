package catalog_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
)

// goldenDir returns where repositories written by stock CernVM-FS are.
func goldenDir(t testing.TB) string {
	dir := os.Getenv("ROOTSTOCK_GOLDEN")
	if dir == "" {
		root, err := filepath.Abs(".")
		if err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
				break
			}
			root = filepath.Dir(root)
		}
		// Worktrees lie one level deeper than the project itself.
		dir = filepath.Join(root, "../shared/golden")
		if _, err := os.Stat(dir); err != nil {
			dir = filepath.Join(root, "../../shared/golden")
		}
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("SKIPPED: no golden repositories at %s: catalogs of stock CernVM-FS not compared; set ROOTSTOCK_GOLDEN", dir)
	}
	return dir
}

// goldenCatalogs decompresses every catalog of the golden repositories that
// are not meant to fail.
func goldenCatalogs(t testing.TB) map[string]string {
	dir, out := goldenDir(t), t.TempDir()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(path, filepath.Join(dir, "fail")) {
			return err
		}
		at := strings.Index(path, "data/")
		if at < 0 {
			return nil
		}
		h, typ, ok := object.ParsePath(path[at:])
		if !ok || typ != object.Catalog {
			return nil
		}
		stored, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var plain bytes.Buffer
		if _, err := codec.Decode(&plain, bytes.NewReader(stored), codec.Expect{Hash: h, Size: -1, Limit: 64 << 20}); err != nil {
			return err
		}
		set := strings.Split(strings.TrimPrefix(path, dir+"/"), "/")[0]
		name := set + "/" + h.String()
		found[name] = filepath.Join(out, strings.ReplaceAll(name, "/", "-"))
		return os.WriteFile(found[name], plain.Bytes(), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 10 {
		t.Fatalf("only %d catalogs in %s", len(found), dir)
	}
	return found
}
