package sqlfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"

	"github.com/rootstock-cf/rootstock/catalog/internal/sqlfile"
	"github.com/rootstock-cf/rootstock/object"
)

var errInvalid = errors.New("invalid file")

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "odd name?mode=rw#%41")
	db, err := sqlfile.Create(path, sqlfile.Properties, errInvalid)
	must(t, err)
	must(t, db.SetVersion("2.5", 7))
	must(t, db.SetProperty("k", "v"))
	must(t, db.Commit())
	return path
}

func open(t testing.TB, path string) *sqlfile.DB {
	t.Helper()
	db, err := sqlfile.OpenReadOnly(path, errInvalid)
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

func TestProperties(t *testing.T) {
	db := open(t, create(t))
	props, err := db.Properties()
	must(t, err)
	if len(props) != 3 || props["k"] != "v" {
		t.Error(props)
	}
	v, err := db.VersionOf(props)
	if err != nil || !v.Is(2.5) || v.Revision != 7 {
		t.Errorf("%v, %v", v, err)
	}
	if v, err := db.VersionOf(nil); err != nil || !v.Is(1) || v.Revision != 0 {
		t.Errorf("version of nothing: %v, %v", v, err)
	}
	if s, ok, err := db.Property("k"); s != "v" || !ok || err != nil {
		t.Errorf("%q, %v, %v", s, ok, err)
	}
	if err := db.SetProperty("k", "w"); err == nil {
		t.Error("a file opened to be read was changed")
	}
	for _, text := range []string{"", strings.Repeat("0", 40), strings.Repeat("0", 40) + "-shake128"} {
		if h, err := sqlfile.ParseHash(text); err != nil || h != (object.Hash{}) {
			t.Errorf("ParseHash(%q) = %v, %v", text, h, err)
		}
	}
}

// However a query comes by its rows, it ends when the file could not hold
// them.
func TestQueriesAreBounded(t *testing.T) {
	db := open(t, create(t))
	const endless = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT "
	n := int64(0)
	err := db.Query(endless+"x FROM c", nil, func(r *sqlfile.Rows) error {
		n = r.Int(0)
		return nil
	})
	if !errors.Is(err, errInvalid) || n > db.Size() {
		t.Errorf("%d rows of a file of %d bytes: %v", n, db.Size(), err)
	}
	err = db.Query(endless+"zeroblob(1000) FROM c", nil, func(r *sqlfile.Rows) error {
		n += int64(len(r.Blob(0, 1000)))
		return nil
	})
	if !errors.Is(err, errInvalid) || n > 2*db.Size() {
		t.Errorf("%d bytes of a file of %d: %v", n, db.Size(), err)
	}
}

func TestColumnTypes(t *testing.T) {
	db := open(t, create(t))
	for name, read := range map[string]func(*sqlfile.Rows){
		"integer":         func(r *sqlfile.Rows) { r.Int(0) },
		"text":            func(r *sqlfile.Rows) { r.Text(1, 100) },
		"blob":            func(r *sqlfile.Rows) { r.Blob(2, 100) },
		"digest":          func(r *sqlfile.Rows) { r.Digest(3) },
		"text or":         func(r *sqlfile.Rows) { r.TextOr(1, 100, "") },
		"integer or":      func(r *sqlfile.Rows) { r.IntOr(0, 0) },
		"text, too long":  func(r *sqlfile.Rows) { r.Text(4, 2) },
		"blob, too long":  func(r *sqlfile.Rows) { r.Blob(5, 2) },
		"null is no text": func(r *sqlfile.Rows) { r.Text(6, 2) },
	} {
		err := db.Query("SELECT 'a', 1, 'a', zeroblob(19), 'abc', zeroblob(3), NULL", nil, func(r *sqlfile.Rows) error {
			read(r)
			if r.Err() == nil {
				t.Errorf("%s: read", name)
			}
			return nil
		})
		if !errors.Is(err, errInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, db.Query("SELECT ?, NULL, zeroblob(3), NULL", func(s *sqlite.Stmt) { s.BindText(1, "a\x00\xff") },
		func(r *sqlfile.Rows) error {
			if got := r.Text(0, 3); got != "a\x00\xff" {
				t.Errorf("text %q", got)
			}
			if r.IntOr(1, 7) != 7 || r.TextOr(1, 1, "x") != "x" || r.Blob(1, 1) != nil || len(r.Blob(2, 3)) != 3 {
				t.Error("NULL or blob")
			}
			if _, ok := r.Digest(3); ok {
				t.Error("a digest of NULL")
			}
			return nil
		}))
}

// Opening for changes and closing leaves a file alone.
func TestCloseAbandons(t *testing.T) {
	path := create(t)
	before, err := os.ReadFile(path)
	must(t, err)
	db, err := sqlfile.OpenReadWrite(path, errInvalid)
	must(t, err)
	must(t, db.SetProperty("x", strings.Repeat("x", 60_000)))
	must(t, db.Close())
	must(t, db.Close())
	after, err := os.ReadFile(path)
	must(t, err)
	if string(before) != string(after) {
		t.Error("the file changed")
	}
}
