package reflog_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/rootstock-cf/rootstock/catalog/reflog"
	"github.com/rootstock-cf/rootstock/object"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func hash(n byte) object.Hash { return object.RMD160.Sum([]byte{n}) }

var refs = []reflog.Ref{
	{Hash: hash(1), Type: object.Catalog, Timestamp: 10},
	{Hash: hash(2), Type: object.Certificate, Timestamp: 20},
	{Hash: hash(3), Type: object.History, Timestamp: 30},
	{Hash: hash(4), Type: object.Metainfo, Timestamp: 40},
}

func create(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), ".cvmfsreflog")
	l, err := reflog.Create(path, "test.example.org")
	must(t, err)
	for _, r := range refs {
		must(t, l.Add(r.Hash, r.Type, r.Timestamp))
	}
	must(t, l.Finish())
	must(t, l.Close())
	return path
}

func open(t testing.TB, path string) *reflog.Log {
	t.Helper()
	l, err := reflog.Open(path)
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	return l
}

func TestReflog(t *testing.T) {
	path := create(t)
	l := open(t, path)
	got, err := l.List()
	must(t, err)
	if diff := cmp.Diff(refs, got); diff != "" || l.FQRN() != "test.example.org" {
		t.Error(l.FQRN(), diff)
	}
	must(t, l.Add(hash(1), object.Catalog, 50))
	must(t, l.Remove(hash(2)))
	if err := l.Remove(hash(2)); !errors.Is(err, reflog.ErrNotExist) {
		t.Errorf("second Remove: %v", err)
	}
	for n, want := range map[byte]bool{1: true, 2: false, 3: true} {
		if has, err := l.Has(hash(n)); err != nil || has != want {
			t.Errorf("Has(%d) = %v, %v", n, has, err)
		}
	}
	must(t, l.Finish())
	got, err = open(t, path).List()
	must(t, err)
	want := []reflog.Ref{refs[2], refs[3], {Hash: hash(1), Type: object.Catalog, Timestamp: 50}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCloseAbandons(t *testing.T) {
	path := create(t)
	before, err := os.ReadFile(path)
	must(t, err)
	l := open(t, path)
	must(t, l.Add(hash(9), object.Catalog, 1))
	must(t, l.Close())
	after, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(before, after) {
		t.Error("the file changed")
	}
}

func TestRefuses(t *testing.T) {
	l := open(t, create(t))
	for _, typ := range []object.Type{object.Bulk, object.Partial, 'L'} {
		if err := l.Add(hash(7), typ, 1); !errors.Is(err, reflog.ErrInvalid) {
			t.Errorf("Add of a %s: %v", typ, err)
		}
	}
	if err := l.Add(object.Hash{}, object.Catalog, 1); !errors.Is(err, reflog.ErrInvalid) {
		t.Errorf("Add of the null hash: %v", err)
	}
	if _, err := reflog.Create(filepath.Join(t.TempDir(), "r"), ""); !errors.Is(err, reflog.ErrInvalid) {
		t.Errorf("Create without name: %v", err)
	}
}

func TestHostile(t *testing.T) {
	for name, script := range map[string]string{
		"schema":  "UPDATE properties SET value = '3.0' WHERE key = 'schema'",
		"no name": "DELETE FROM properties WHERE key = 'fqrn'",
		"no refs": "DROP TABLE refs",
		"view":    "CREATE VIEW v AS SELECT 1",
		"type":    "UPDATE refs SET type = 4",
		"below 0": "UPDATE refs SET type = -1",
		"hash":    "INSERT INTO refs VALUES ('x', 0, 0)",
		"no hash": "INSERT INTO refs VALUES ('', 0, 0)",
		"time":    "UPDATE refs SET timestamp = 'x'",
	} {
		path := create(t)
		conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
		must(t, err)
		must(t, sqlitex.ExecuteScript(conn, script, nil))
		must(t, conn.Close())
		l, err := reflog.Open(path)
		if err == nil {
			_, err = l.List()
			must(t, l.Close())
		}
		if !errors.Is(err, reflog.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGolden(t *testing.T) {
	var data []byte
	err := errors.New("nowhere to look")
	for _, dir := range []string{os.Getenv("ROOTSTOCK_GOLDEN"), "../../../shared/golden", "../../../../shared/golden"} {
		if data, err = os.ReadFile(filepath.Join(dir, "tags/repo/.cvmfsreflog")); err == nil {
			break
		}
	}
	if err != nil {
		t.Skip("SKIPPED: no golden repositories: reflog of stock CernVM-FS not compared; set ROOTSTOCK_GOLDEN")
	}
	path := filepath.Join(t.TempDir(), "reflog")
	must(t, os.WriteFile(path, data, 0o600))
	l := open(t, path)
	got, err := l.List()
	must(t, err)
	count := map[object.Type]int{}
	for _, r := range got {
		count[r.Type]++
	}
	want := map[object.Type]int{object.Catalog: 5, object.Certificate: 1, object.History: 6, object.Metainfo: 1}
	if diff := cmp.Diff(want, count); diff != "" || l.FQRN() != "tags.golden.cf" {
		t.Error(l.FQRN(), diff)
	}
}
