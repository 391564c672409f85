package sqlfile

import (
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// maxSchema bounds the tables and indexes of a file. A history has ten.
const maxSchema = 64

// checkSchema refuses whatever could run when a table is read or written:
// views, triggers and virtual tables.
func (d *DB) checkSchema() error {
	n := 0
	return d.Query("SELECT type, name, rootpage FROM sqlite_schema", nil, func(r *Rows) error {
		typ, name, root := r.Text(0, 16), r.Text(1, 256), r.IntOr(2, 0)
		if n++; n > maxSchema {
			return fmt.Errorf("%w: more than %d tables and indexes", d.invalid, maxSchema)
		}
		if typ != "table" && typ != "index" || root <= 0 {
			return fmt.Errorf("%w: %s %q is neither a plain table nor an index", d.invalid, typ, name)
		}
		return nil
	})
}

// Columns returns the names of a table's columns in lower case, nothing for a
// table that is not there. Generated columns are refused. table is a constant
// of this module: a PRAGMA takes no parameters. The table-valued function of
// that name would, and was once seen to return no rows for a table that is
// there.
func (d *DB) Columns(table string) (map[string]bool, error) {
	stmt, _, err := d.conn.PrepareTransient("PRAGMA table_xinfo(" + table + ")")
	if err != nil {
		return nil, d.wrap(err)
	}
	defer stmt.Finalize() //nolint:errcheck // repeats the error of Step
	const name, hidden = 1, 6
	cols := map[string]bool{}
	err = d.Run(stmt, nil, func(r *Rows) error {
		column := r.Text(name, 256)
		if r.Int(hidden) != 0 {
			return fmt.Errorf("%w: column %q of table %s is computed", d.invalid, column, table)
		}
		cols[strings.ToLower(column)] = true
		return nil
	})
	return cols, err
}

// execute runs statements that are constants of this module, skipping what
// rows they return.
func execute(conn *sqlite.Conn, script string) error {
	for q := range strings.SplitSeq(script, ";") {
		if strings.TrimSpace(q) == "" {
			continue
		}
		if err := sqlitex.ExecuteTransient(conn, q, nil); err != nil {
			return err
		}
	}
	return nil
}
