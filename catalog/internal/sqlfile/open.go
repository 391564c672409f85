// Package sqlfile opens the SQLite files a repository is made of: catalogs,
// histories and reflogs (CVMFS-FORMAT 0.5).
//
// A file that is read came from the network. Its signature says who wrote it,
// not that it is harmless, so it is opened immutable, with a schema of nothing
// but plain tables and indexes, and every query is bounded by what a file of
// its size can hold. A file that is written is a temporary until somebody
// hashes it: nothing here is synced to disk.
package sqlfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

const (
	// maxValue bounds a single value, in bytes. The largest legitimate one
	// is an xattr blob of 130,562 bytes.
	maxValue = 256 << 10
	// openLimit ends the loading of a schema that loops through its own
	// pages; the schemas of this format load in well under a millisecond.
	openLimit = 20 * time.Second
	// minRow is a lower bound, in bytes, for what one row takes in a file.
	minRow = 4
)

// DB is an open file. It is not safe for concurrent use.
type DB struct {
	conn    *sqlite.Conn
	path    string
	size    int64 // bytes, bounds what queries may return
	invalid error
}

// OpenReadOnly opens the file at path, which must not change while it is open.
// Anything wrong with its contents is reported as invalid.
func OpenReadOnly(path string, invalid error) (*DB, error) {
	size, err := checkHeader(path, invalid)
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	uri := url.URL{Scheme: "file", Path: abs, RawQuery: "mode=ro&immutable=1"}
	d := &DB{path: path, size: size, invalid: invalid}
	// A cell has hundreds of catalogs open at times: 128 KiB of cache each.
	const reading = "PRAGMA cache_size=-128; PRAGMA query_only=on; PRAGMA temp_store=memory;"
	if err := d.open(uri.String(), sqlite.OpenReadOnly|sqlite.OpenURI, reading); err != nil {
		return nil, err
	}
	return d, nil
}

// OpenReadWrite opens the existing file at path for changes and begins the
// transaction that [DB.Commit] ends.
func OpenReadWrite(path string, invalid error) (*DB, error) {
	if _, err := checkHeader(path, invalid); err != nil {
		return nil, err
	}
	d := &DB{path: path, size: math.MaxInt64, invalid: invalid}
	if err := d.open(path, sqlite.OpenReadWrite, writing); err != nil {
		return nil, err
	}
	return d, nil
}

// Create makes a database at path, which must not exist or be empty, runs the
// statements of ddl and begins the transaction that [DB.Commit] ends.
func Create(path, ddl string, invalid error) (*DB, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil && st.Size() != 0 {
		err = fmt.Errorf("create %s: %w", path, fs.ErrExist)
	}
	if err != nil {
		return nil, err
	}
	d := &DB{path: path, size: math.MaxInt64, invalid: invalid}
	if err := d.open(path, sqlite.OpenReadWrite, writing); err != nil {
		return nil, err
	}
	if err := sqlitex.ExecuteScript(d.conn, ddl, nil); err != nil {
		return nil, errors.Join(fmt.Errorf("create %s: %w", path, err), d.Close())
	}
	return d, nil
}

// writing makes SQLite keep everything in memory as long as it can. The
// journal stays, in memory, because a failed statement is undone with it.
const writing = `PRAGMA journal_mode=memory; PRAGMA synchronous=off; PRAGMA locking_mode=exclusive;
PRAGMA cache_size=-16384; PRAGMA temp_store=memory; PRAGMA foreign_keys=off; BEGIN EXCLUSIVE;`

func (d *DB) open(name string, flags sqlite.OpenFlags, pragmas string) error {
	conn, err := sqlite.OpenConn(name, flags)
	if err != nil {
		return d.wrap(err)
	}
	d.conn = conn
	conn.Limit(sqlite.LimitLength, maxValue)
	conn.Limit(sqlite.LimitAttached, 0)
	ctx, cancel := context.WithTimeout(context.Background(), openLimit)
	defer cancel()
	conn.SetInterrupt(ctx.Done())
	// Not SetDefensive: it hands SQLite one argument where two are read, and
	// the missing one is an address that is then written to. What it would
	// guard against, statements from outside, does not exist here, and
	// checkSchema refuses all but plain tables and indexes.
	err = execute(conn, "PRAGMA trusted_schema=off; PRAGMA cell_size_check=on; PRAGMA mmap_size=0; "+pragmas)
	if err == nil {
		err = d.checkSchema()
	}
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: its schema does not end", d.invalid)
		}
		return errors.Join(d.wrap(err), d.Close())
	}
	conn.SetInterrupt(nil)
	return nil
}

// checkHeader looks at the first bytes of the file, so that neither a journal
// nor an encoding that nobody writes reaches SQLite, and returns its size.
func checkHeader(path string, invalid error) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // only read
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !st.Mode().IsRegular() {
		return 0, fmt.Errorf("%w: %s is not a regular file", invalid, path)
	}
	var h [100]byte
	if _, err := io.ReadFull(f, h[:]); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: %s is shorter than a database header", invalid, path)
		}
		return 0, err
	}
	switch {
	case string(h[:16]) != "SQLite format 3\x00":
		return 0, fmt.Errorf("%w: %s is not an SQLite database", invalid, path)
	case h[18] != 1 || h[19] != 1:
		return 0, fmt.Errorf("%w: %s is not in rollback journal format", invalid, path)
	case h[59] > 1 || h[56]|h[57]|h[58] != 0:
		return 0, fmt.Errorf("%w: %s is not encoded in UTF-8", invalid, path)
	}
	return st.Size(), nil
}

// Path returns the name the file was opened by.
func (d *DB) Path() string { return d.path }

// Size returns the length in bytes of a file opened to be read.
func (d *DB) Size() int64 { return d.size }

// Close abandons what was not committed.
func (d *DB) Close() error {
	if d.conn == nil {
		return nil
	}
	err := d.conn.Close()
	d.conn = nil
	if err != nil {
		return fmt.Errorf("close %s: %w", d.path, err)
	}
	return nil
}

// wrap names the file and tells contents that are wrong from circumstances
// that are.
func (d *DB) wrap(err error) error {
	if err == nil || errors.Is(err, d.invalid) {
		return err
	}
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultCorrupt, sqlite.ResultNotADB, sqlite.ResultTooBig, sqlite.ResultError,
		sqlite.ResultFormat, sqlite.ResultMismatch, sqlite.ResultSchema, sqlite.ResultAuth:
		return fmt.Errorf("%w: %s: %w", d.invalid, d.path, err)
	}
	return fmt.Errorf("%s: %w", d.path, err)
}
