package catalog_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/rootstock-cf/rootstock/catalog"
)

// columnsOf lists the columns of all tables in their order, and the indexes.
func columnsOf(t *testing.T, path string) []string {
	t.Helper()
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadOnly)
	must(t, err)
	var all []string
	const query = `SELECT s.name || '.' || i.cid || ' ' || i.name || ' ' || i.type || ' ' || i.pk
		FROM sqlite_schema s JOIN pragma_table_info(s.name) i WHERE s.type = 'table'
		UNION ALL SELECT name || ' on ' || tbl_name FROM sqlite_schema WHERE type = 'index'`
	must(t, sqlitex.ExecuteTransient(conn, query, &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
		all = append(all, s.ColumnText(0))
		return nil
	}}))
	must(t, sqlitex.ExecuteTransient(conn, "PRAGMA integrity_check", &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
		if s.ColumnText(0) != "ok" {
			t.Error(s.ColumnText(0))
		}
		return nil
	}}))
	must(t, conn.Close())
	slices.Sort(all)
	return all
}

// Stock servers copy rows with SELECT *: our tables are theirs.
func TestTablesAreThoseOfStock(t *testing.T) {
	got := columnsOf(t, sample(t))
	for name, path := range goldenCatalogs(t) {
		if diff := cmp.Diff(columnsOf(t, path), got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// What removals leave free is given back, and ids stay dense without it.
func TestShrinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog")
	entries := distribution(3000)
	write(t, path, entries)
	big := fileSize(t, path)
	w, err := catalog.OpenWriter(path)
	must(t, err)
	for _, e := range entries[10:] {
		must(t, w.Remove(e.path))
	}
	finish(t, w)
	if small := fileSize(t, path); small > big/4 {
		t.Errorf("%d bytes shrank to %d", big, small)
	}
	columnsOf(t, path)
	ids, root := rowIDs(t, openReader(t, path))
	if root != 1 || len(ids) != 10 || ids[9] != 10 {
		t.Errorf("row ids %v, root %d", ids, root)
	}
}
