package sqlfile

import (
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/rootstock-cf/rootstock/object"
)

// Rows is the current row of a query. The first column that is not what its
// reader asks for is kept as an error, which the query then returns; what is
// read after that is zero.
type Rows struct {
	stmt  *sqlite.Stmt
	db    *DB
	bytes int64
	err   error
}

// Query runs a statement, bind having set its parameters, and calls row for
// each result. row returns early with an error of its own.
//
// However its pages are linked, a file returns no more rows and no more bytes
// than one of its size could hold.
func (d *DB) Query(query string, bind func(*sqlite.Stmt), row func(*Rows) error) error {
	stmt, err := d.conn.Prepare(query)
	if err != nil {
		return d.wrap(err)
	}
	return d.Run(stmt, bind, row)
}

// Prepare compiles a statement for [DB.Run]; it lives as long as the DB.
func (d *DB) Prepare(query string) (*sqlite.Stmt, error) {
	stmt, err := d.conn.Prepare(query)
	return stmt, d.wrap(err)
}

// Run is [DB.Query] of a prepared statement. bind and row may be nil.
func (d *DB) Run(stmt *sqlite.Stmt, bind func(*sqlite.Stmt), row func(*Rows) error) error {
	defer stmt.Reset() //nolint:errcheck // repeats the error of Step
	if bind != nil {
		bind(stmt)
	}
	r := Rows{stmt: stmt, db: d}
	for left := d.size / minRow; ; left-- {
		ok, err := stmt.Step()
		if err != nil {
			return d.wrap(err)
		}
		if !ok {
			return nil
		}
		if left <= 0 {
			return fmt.Errorf("%w: %s: more rows than the file can hold", d.invalid, d.path)
		}
		if row == nil {
			continue
		}
		err = row(&r)
		if r.err != nil {
			return r.err
		}
		if err != nil {
			return err
		}
	}
}

// Exec runs a statement with text and integer arguments.
func (d *DB) Exec(query string, args ...any) error {
	return d.Query(query, func(s *sqlite.Stmt) {
		for i, a := range args {
			switch a := a.(type) {
			case int64:
				s.BindInt64(i+1, a)
			case string:
				s.BindText(i+1, a)
			default:
				panic(fmt.Sprintf("sqlfile: argument of type %T", a))
			}
		}
	}, nil)
}

// Changes returns the number of rows the last statement changed.
func (d *DB) Changes() int { return d.conn.Changes() }

// LastInsertRowID returns the row id of the last row inserted.
func (d *DB) LastInsertRowID() int64 { return d.conn.LastInsertRowID() }

// Err returns what was wrong with the columns read so far.
func (r *Rows) Err() error { return r.err }

// Forgive forgets what was wrong, so that the next row is read.
func (r *Rows) Forgive() { r.err = nil }

// Int reads an integer column.
func (r *Rows) Int(col int) int64 {
	if t := r.stmt.ColumnType(col); t != sqlite.TypeInteger {
		r.wrong(col, "%s instead of an integer", t)
		return 0
	}
	return r.stmt.ColumnInt64(col)
}

// IntOr reads an integer column that may be NULL.
func (r *Rows) IntOr(col int, null int64) int64 {
	if r.stmt.ColumnType(col) == sqlite.TypeNull {
		return null
	}
	return r.Int(col)
}

// Text reads a text column of at most limit bytes.
func (r *Rows) Text(col, limit int) string {
	if t := r.stmt.ColumnType(col); t != sqlite.TypeText {
		r.wrong(col, "%s instead of text", t)
		return ""
	}
	n := r.stmt.ColumnLen(col)
	if n == 0 || !r.room(col, n, limit) {
		return ""
	}
	return r.stmt.ColumnText(col)
}

// Blob reads a blob column of at most limit bytes, nil for NULL.
func (r *Rows) Blob(col, limit int) []byte {
	switch t := r.stmt.ColumnType(col); t {
	case sqlite.TypeNull:
		return nil
	case sqlite.TypeBlob:
	default:
		r.wrong(col, "%s instead of a blob", t)
		return nil
	}
	n := r.stmt.ColumnLen(col)
	if n == 0 || !r.room(col, n, limit) {
		return nil
	}
	b := make([]byte, n)
	r.stmt.ColumnBytes(col, b)
	return b
}

// Digest reads a blob column holding a raw digest; ok is false for NULL and
// for the empty blob.
func (r *Rows) Digest(col int) (d [object.DigestSize]byte, ok bool) {
	switch t := r.stmt.ColumnType(col); t {
	case sqlite.TypeNull:
		return d, false
	case sqlite.TypeBlob:
	default:
		r.wrong(col, "%s instead of a blob", t)
		return d, false
	}
	switch n := r.stmt.ColumnLen(col); n {
	case 0:
		return d, false
	case len(d):
		r.stmt.ColumnBytes(col, d[:])
		return d, true
	default:
		r.wrong(col, "a digest of %d bytes", n)
		return d, false
	}
}

func (r *Rows) room(col, n, limit int) bool {
	if n > limit {
		r.wrong(col, "%d bytes, more than %d", n, limit)
		return false
	}
	if r.bytes += int64(n); r.bytes > r.db.size {
		r.wrong(col, "more bytes than the file can hold")
		return false
	}
	return true
}

func (r *Rows) wrong(col int, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s: column %s is %s", r.db.invalid, r.db.path,
			r.stmt.ColumnName(col), fmt.Sprintf(format, args...))
	}
}

// TextOr is [Rows.Text] of a column that may be NULL.
func (r *Rows) TextOr(col, limit int, null string) string {
	if r.stmt.ColumnType(col) == sqlite.TypeNull {
		return null
	}
	return r.Text(col, limit)
}
