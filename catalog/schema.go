package catalog

import (
	"fmt"
	"strings"

	"github.com/rootstock-cf/rootstock/catalog/internal/sqlfile"
)

// The version written: schema 2.5, revision 7.
const (
	schema         = "2.5"
	schemaNumber   = 2.5
	schemaRevision = 7
)

// ddl creates the tables. Stock servers copy rows between catalogs with
// SELECT *, so the order of the columns is part of the format (CVMFS-FORMAT
// 2.1).
const ddl = sqlfile.Properties + `
CREATE TABLE catalog (md5path_1 INTEGER, md5path_2 INTEGER, parent_1 INTEGER, parent_2 INTEGER, hardlinks INTEGER, hash BLOB, size INTEGER, mode INTEGER, mtime INTEGER, mtimens INTEGER, flags INTEGER, name TEXT, symlink TEXT, uid INTEGER, gid INTEGER, xattr BLOB, CONSTRAINT pk_catalog PRIMARY KEY (md5path_1, md5path_2));
CREATE INDEX idx_catalog_parent ON catalog (parent_1, parent_2);
CREATE TABLE chunks (md5path_1 INTEGER, md5path_2 INTEGER, offset INTEGER, size INTEGER, hash BLOB, CONSTRAINT pk_chunks PRIMARY KEY (md5path_1, md5path_2, offset, size), FOREIGN KEY (md5path_1, md5path_2) REFERENCES catalog(md5path_1, md5path_2));
CREATE TABLE nested_catalogs (path TEXT, sha1 TEXT, size INTEGER, CONSTRAINT pk_nested_catalogs PRIMARY KEY (path));
` + ddlBinds + `
CREATE TABLE statistics (counter TEXT, value INTEGER, CONSTRAINT pk_statistics PRIMARY KEY (counter));
`

const ddlBinds = "CREATE TABLE bind_mountpoints (path TEXT, sha1 TEXT, size INTEGER, CONSTRAINT pk_bind_mountpoints PRIMARY KEY (path));"

// columns of the catalog table in the order [decodeRow] and the writer use,
// with what stands in for one that the schema of a file does not have.
var columns = [...]struct {
	name   string
	since  int    // schema revision
	legacy bool   // may be missing below schema 2.0
	absent string // SQL
}{
	{name: "md5path_1"},
	{name: "md5path_2"},
	{name: "parent_1"},
	{name: "parent_2"},
	{name: "hardlinks", legacy: true, absent: "1"},
	{name: "hash"},
	{name: "size"},
	{name: "mode"},
	{name: "mtime"},
	{name: "mtimens", since: 7, absent: "NULL"},
	{name: "flags"},
	{name: "name"},
	{name: "symlink"},
	{name: "uid", legacy: true, absent: "0"},
	{name: "gid", legacy: true, absent: "0"},
	{name: "xattr", since: 2, absent: "NULL"},
}

// Positions in columns; the row id comes first in every query.
const (
	colID = iota
	colKeyA
	colKeyB
	colParentA
	colParentB
	colLinks
	colHash
	colSize
	colMode
	colMTime
	colMTimeNS
	colFlags
	colName
	colSymlink
	colUID
	colGID
	colXAttr
)

// layout is which tables and columns a file has.
type layout struct {
	version sqlfile.Version
	row     string // the columns of catalog, for SELECT
	chunks  bool
	binds   bool
	nested  string // the columns path, sha1, size of nested_catalogs
}

func (l *layout) isLegacy() bool { return l.version.Schema < 2-0.0005 }

// layoutOf finds out how to read a file, and refuses one whose tables are not
// those its version says.
func layoutOf(db *sqlfile.DB, props map[string]string) (layout, error) {
	v, err := db.VersionOf(props)
	if err != nil {
		return layout{}, err
	}
	l := layout{version: v}
	if !l.isLegacy() && !v.Is(2.4) && !v.Is(schemaNumber) {
		return l, fmt.Errorf("%w: %s: schema %g is unknown; this version reads up to %s", ErrInvalid, db.Path(), v.Schema, schema)
	}
	have, err := db.Columns("catalog")
	if err != nil {
		return l, err
	}
	list := []string{"rowid"}
	for _, c := range columns {
		name := c.name
		switch {
		case v.Revision < c.since || l.isLegacy() && c.legacy && !have[name]:
			name = c.absent + " AS " + name
		case !have[name]:
			return l, fmt.Errorf("%w: %s: table catalog has no column %s", ErrInvalid, db.Path(), name)
		}
		list = append(list, name)
	}
	l.row = strings.Join(list, ", ")
	return l, l.others(db)
}

func (l *layout) others(db *sqlfile.DB) error {
	chunks, err := db.Columns("chunks")
	if err != nil {
		return err
	}
	binds, err := db.Columns("bind_mountpoints")
	if err != nil {
		return err
	}
	nested, err := db.Columns("nested_catalogs")
	if err != nil {
		return err
	}
	stats, err := db.Columns("statistics")
	if err != nil {
		return err
	}
	l.chunks, l.binds = len(chunks) > 0, l.version.Revision >= 4
	l.nested = "path, sha1, size"
	if l.version.Revision < 1 {
		l.nested = "path, sha1, 0 AS size"
	}
	switch {
	case l.isLegacy() && !nested["sha1"]:
		l.nested = "path, '' AS sha1, 0 AS size"
	case l.isLegacy():
	case !l.chunks, len(stats) == 0, l.binds && len(binds) == 0:
		return fmt.Errorf("%w: %s: schema %g revision %d lacks a table", ErrInvalid, db.Path(), l.version.Schema, l.version.Revision)
	}
	return nil
}
