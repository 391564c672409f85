package catalog_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/rootstock-cf/rootstock/catalog"
)

// alter runs SQL on a finished catalog.
func alter(t testing.TB, path string, script string) {
	t.Helper()
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	must(t, err)
	must(t, sqlitex.ExecuteScript(conn, script, nil))
	must(t, conn.Close())
}

func scalar(t testing.TB, path, query string) int64 {
	t.Helper()
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadOnly)
	must(t, err)
	stmt, err := conn.Prepare(query)
	must(t, err)
	n, err := sqlitex.ResultInt64(stmt)
	must(t, err)
	must(t, conn.Close())
	return n
}

// sample writes a catalog that has something in every column.
func sample(t testing.TB) string {
	t.Helper()
	w, path := create(t, catalog.CreateOptions{})
	must(t, w.Add("", dir(2)))
	must(t, w.Add("/d", dir(0)))
	nested := dir(0)
	nested.Flags = catalog.NestedMountpoint
	must(t, w.Add("/n", nested))
	must(t, w.SetNested(catalog.Nested{Path: "/n", Hash: someHash, Size: 4096}))
	f := file(10)
	f.MTimeNS, f.XAttrs, f.UID, f.GID = 5, []catalog.XAttr{{Name: "user.a", Value: []byte("b")}}, 1000, 1001
	f.Links, f.Group = 2, 1
	must(t, w.Add("/d/f", f))
	must(t, w.Add("/d/g", f))
	must(t, w.Add("/d/fifo", &catalog.Entry{Mode: 0o010600, Links: 1, MTimeNS: -1}))
	must(t, w.Add("/d/l", &catalog.Entry{Mode: 0o120777, Links: 1, Size: 1, MTimeNS: -1, Symlink: "f"}))
	finish(t, w)
	return path
}

// downgrade turns a catalog of revision 7 into one of an older revision.
func downgrade(t testing.TB, path string, revision int) {
	t.Helper()
	for _, step := range []struct {
		revision int
		script   string
	}{
		{7, "ALTER TABLE catalog DROP COLUMN mtimens;"},
		{5, "UPDATE catalog SET flags = flags & ~16; DELETE FROM statistics WHERE counter LIKE '%special';"},
		{4, "DROP TABLE bind_mountpoints;"},
		{3, "DELETE FROM statistics WHERE counter LIKE '%external%';"},
		{2, "ALTER TABLE catalog DROP COLUMN xattr; DELETE FROM statistics WHERE counter LIKE '%xattr';"},
		{1, "ALTER TABLE nested_catalogs DROP COLUMN size;"},
	} {
		if revision < step.revision {
			alter(t, path, step.script)
		}
	}
	alter(t, path, fmt.Sprintf("UPDATE properties SET value = '%d' WHERE key = 'schema_revision';", revision))
}

func TestOlderRevisions(t *testing.T) {
	for revision := range 8 {
		t.Run(strconv.Itoa(revision), func(t *testing.T) {
			path := sample(t)
			want := rowsOf(t, openReader(t, path))
			wantSelf, _, err := openReader(t, path).Counters()
			must(t, err)
			downgrade(t, path, revision)
			for p, row := range want {
				if revision < 7 {
					row.MTimeNS = catalog.NoNanoseconds
				}
				if revision < 2 {
					row.XAttrs = nil
				}
				want[p] = row
			}
			if revision < 2 {
				wantSelf.XAttr = 0
			}
			r := openReader(t, path)
			if diff := cmp.Diff(want, rowsOf(t, r)); diff != "" {
				t.Error(diff)
			}
			nested, err := r.Nested()
			must(t, err)
			if size := nested[0].Size; (revision < 1 && size != 0) || (revision >= 1 && size != 4096) {
				t.Errorf("nested catalog of %d bytes", size)
			}
			if binds, err := r.Binds(); err != nil || len(binds) != 0 {
				t.Errorf("%v, %v", binds, err)
			}
			self, _, err := r.Counters()
			must(t, err)
			if revision < 5 && self.Special != 0 || revision >= 5 && self.Special != 1 {
				t.Errorf("counters %+v", self)
			}
			checkIndex(t, r, compile(t, r))

			// Opened for writing it becomes a catalog of revision 7.
			w, err := catalog.OpenWriter(path)
			must(t, err)
			finish(t, w)
			if got := scalar(t, path, "SELECT flags FROM catalog WHERE name = 'fifo'"); got != 20 {
				t.Errorf("special file has flags %d after migration", got)
			}
			upgraded := openReader(t, path)
			if _, rev := upgraded.Schema(); rev != 7 {
				t.Errorf("revision %d after migration", rev)
			}
			if diff := cmp.Diff(want, rowsOf(t, upgraded)); diff != "" {
				t.Error(diff)
			}
			self, _, err = upgraded.Counters()
			must(t, err)
			if self != wantSelf || recount(t, upgraded) != self {
				t.Errorf("counters %+v, want %+v", self, wantSelf)
			}
		})
	}
}

func TestLegacySchema(t *testing.T) {
	path := sample(t)
	want := rowsOf(t, openReader(t, path))
	downgrade(t, path, 0)
	alter(t, path, `ALTER TABLE catalog DROP COLUMN uid; ALTER TABLE catalog DROP COLUMN gid;
		ALTER TABLE catalog DROP COLUMN hardlinks; DROP TABLE statistics; DROP TABLE chunks;
		DROP TABLE nested_catalogs; CREATE TABLE nested_catalogs (path TEXT); INSERT INTO nested_catalogs VALUES ('/n');
		DELETE FROM properties WHERE key LIKE 'schema%';`)
	for p, row := range want {
		row.UID, row.GID, row.Links, row.Group, row.XAttrs, row.MTimeNS = 0, 0, 1, 0, nil, -1
		want[p] = row
	}
	r := openReader(t, path)
	if diff := cmp.Diff(want, rowsOf(t, r)); diff != "" {
		t.Error(diff)
	}
	checkIndex(t, r, compile(t, r))
	if w, err := catalog.OpenWriter(path); !errors.Is(err, catalog.ErrInvalid) {
		t.Errorf("OpenWriter of a legacy catalog: %v, %v", w, err)
	}
}

func TestVersions(t *testing.T) {
	for schema, ok := range map[string]bool{
		"0.9": true, "1.0": true, "1.2": true, "2.4": true, "2.5": true, "2.50001": true,
		"2.0": false, "2.1": false, "2.3": false, "2.6": false, "3.0": false, "x": false, "NaN": false, "-1": false, "": false,
	} {
		path := sample(t)
		alter(t, path, "UPDATE properties SET value = '"+schema+"' WHERE key = 'schema';")
		r, err := catalog.OpenReader(path)
		if err == nil {
			must(t, r.Close())
		}
		if (err == nil) != ok || err != nil && !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("schema %q: %v", schema, err)
		}
	}
	// Revisions to come are read like the newest.
	path := sample(t)
	alter(t, path, "UPDATE properties SET value = '12' WHERE key = 'schema_revision'; ALTER TABLE catalog ADD novelty TEXT;")
	if rows := rowsOf(t, openReader(t, path)); rows["/d/f"].MTimeNS != 5 {
		t.Errorf("%+v", rows["/d/f"])
	}
}

// A missing file is not an invalid one.
func TestOpenNothing(t *testing.T) {
	_, err := catalog.OpenReader(filepath.Join(t.TempDir(), "nothing"))
	if errors.Is(err, catalog.ErrInvalid) || err == nil {
		t.Error(err)
	}
	if _, err := catalog.OpenReader(t.TempDir()); !errors.Is(err, catalog.ErrInvalid) {
		t.Error(err)
	}
}
