package history_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/rootstock-cf/rootstock/catalog/history"
)

// readHistory does to a file what a client would; what is accepted is sound.
func readHistory(t *testing.T, path string) {
	t.Helper()
	r, err := history.Open(path)
	if err != nil {
		if !errors.Is(err, history.ErrInvalid) {
			t.Error(err)
		}
		return
	}
	defer r.Close() //nolint:errcheck // read only
	all, err := r.List()
	if err != nil {
		if !errors.Is(err, history.ErrInvalid) {
			t.Error(err)
		}
		return
	}
	for _, tag := range all {
		if err := history.CheckName(tag.Name); err != nil || tag.Root.IsZero() || tag.Size < 0 {
			t.Errorf("%+v: %v", tag, err)
		}
		if found, ok, err := r.ByDate(tag.Timestamp); err != nil || tag.Branch == "" && (!ok || found.Timestamp > tag.Timestamp) {
			t.Errorf("by the date of %+v: %+v, %v, %v", tag, found, ok, err)
		}
	}
}

// FuzzReader reads arbitrary bytes as a history.
func FuzzReader(f *testing.F) {
	w, path := create(f)
	must(f, w.Add(tag("v1", 1)))
	must(f, w.Finish(root(0)))
	db, err := os.ReadFile(path)
	must(f, err)
	f.Add(db)
	f.Add(db[:4096])
	f.Fuzz(func(t *testing.T, db []byte) {
		path := filepath.Join(t.TempDir(), "history")
		must(t, os.WriteFile(path, db, 0o600))
		readHistory(t, path)
	})
}

// FuzzTags puts arbitrary values into the rows of a history that is sound
// otherwise.
func FuzzTags(f *testing.F) {
	w, path := create(f)
	must(f, w.Add(tag("v1", 1)))
	must(f, w.Add(tag("v2", 2)))
	must(f, w.Finish(root(0)))
	template, err := os.ReadFile(path)
	must(f, err)
	f.Add("v1", root(1).String(), int64(1), int64(1000), int64(4096), "text", "", "3", "test.example.org")
	f.Add("a/../b", "zz", int64(-1), int64(-1), int64(-1), "", "branch", "0", "")
	f.Fuzz(func(t *testing.T, name, hash string, revision, timestamp, size int64, description, branch, schemaRevision, fqrn string) {
		path := filepath.Join(t.TempDir(), "history")
		must(t, os.WriteFile(path, template, 0o600))
		conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
		must(t, err)
		must(t, sqlitex.ExecuteTransient(conn, "PRAGMA synchronous = OFF", nil)) // for speed
		for text, args := range map[string][]any{
			"UPDATE OR IGNORE tags SET name = ?, hash = ?, revision = ?, timestamp = ?, size = ?, description = ?, branch = ? WHERE name = 'v1'": {
				name, hash, revision, timestamp, size, description, branch,
			},
			"UPDATE properties SET value = ? WHERE key = 'schema_revision'": {schemaRevision},
			"UPDATE properties SET value = ? WHERE key = 'fqrn'":            {fqrn},
		} {
			must(t, sqlitex.Execute(conn, text, &sqlitex.ExecOptions{Args: args}))
		}
		must(t, conn.Close())
		readHistory(t, path)
	})
}
