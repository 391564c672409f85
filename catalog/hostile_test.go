package catalog_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/rootstock-cf/rootstock/catalog"
)

// readAll does to a file what a client would, and returns the first error.
func readAll(ctx context.Context, path, index string) error {
	r, err := catalog.OpenReader(path)
	if err != nil {
		return err
	}
	_, _, err = r.Counters()
	if err == nil {
		_, err = r.Nested()
	}
	if err == nil {
		_, err = r.Binds()
	}
	if err == nil {
		err = r.Scan(ctx, func(catalog.Row) error { return nil })
	}
	if err == nil {
		err = catalog.Compile(ctx, r, index)
	}
	return errors.Join(err, r.Close())
}

func TestHostileDatabases(t *testing.T) {
	for name, script := range map[string]string{
		"view for a table":      "ALTER TABLE catalog RENAME TO real; CREATE VIEW catalog AS SELECT * FROM real;",
		"any view":              "CREATE VIEW v AS SELECT 1;",
		"trigger":               "CREATE TRIGGER t AFTER INSERT ON catalog BEGIN DELETE FROM catalog; END;",
		"virtual table":         "DROP TABLE statistics; CREATE VIRTUAL TABLE statistics USING fts5(counter, value);",
		"computed column":       "ALTER TABLE catalog DROP COLUMN symlink; ALTER TABLE catalog ADD symlink TEXT AS ('');",
		"many tables":           manyTables(),
		"no catalog":            "DROP TABLE catalog;",
		"no chunks":             "DROP TABLE chunks;",
		"no properties":         "DROP TABLE properties;",
		"no column":             "ALTER TABLE catalog DROP COLUMN symlink;",
		"no counter":            "DELETE FROM statistics WHERE counter = 'self_dir';",
		"negative counter":      "UPDATE statistics SET value = -1 WHERE counter = 'self_dir';",
		"counter is text":       "UPDATE statistics SET value = 'x' WHERE counter = 'self_dir';",
		"revision":              "UPDATE properties SET value = '-1' WHERE key = 'revision';",
		"previous":              "UPDATE properties SET value = 'x' WHERE key = 'previous_revision';",
		"TTL":                   "INSERT INTO properties VALUES ('TTL', '99999999999999');",
		"root prefix":           "INSERT INTO properties VALUES ('root_prefix', '/../x');",
		"property too large":    "INSERT INTO properties VALUES ('x', printf('%.*c', 100000, 'x'));",
		"name with slash":       "UPDATE catalog SET name = 'a/b' WHERE name = 'f';",
		"name dot":              "UPDATE catalog SET name = '.' WHERE name = 'f';",
		"name dot dot":          "UPDATE catalog SET name = '..' WHERE name = 'f';",
		"name empty":            "UPDATE catalog SET name = '' WHERE name = 'f';",
		"name with NUL":         "UPDATE catalog SET name = CAST(X'610062' AS TEXT) WHERE name = 'f';",
		"name too long":         "UPDATE catalog SET name = printf('%.*c', 256, 'x') WHERE name = 'f';",
		"name is NULL":          "UPDATE catalog SET name = NULL WHERE name = 'f';",
		"name is a blob":        "UPDATE catalog SET name = X'66' WHERE name = 'f';",
		"symlink too long":      "UPDATE catalog SET symlink = printf('%.*c', 4097, 'x') WHERE name = 'l';",
		"symlink with NUL":      "UPDATE catalog SET symlink = CAST(X'610062' AS TEXT) WHERE name = 'l';",
		"symlink of a file":     "UPDATE catalog SET symlink = 'x' WHERE name = 'f';",
		"xattr too long":        "UPDATE catalog SET xattr = zeroblob(130563) WHERE name = 'f';",
		"row too large":         "UPDATE catalog SET symlink = printf('%.*c', 1000000, 'x') WHERE name = 'l';",
		"hash too short":        "UPDATE catalog SET hash = X'00' WHERE name = 'f';",
		"hash is text":          "UPDATE catalog SET hash = '12345678901234567890' WHERE name = 'f';",
		"hash of a directory":   "UPDATE catalog SET hash = zeroblob(20) WHERE name = 'd';",
		"negative size":         "UPDATE catalog SET size = -1 WHERE name = 'f';",
		"mode":                  "UPDATE catalog SET mode = 1 << 32 | 33188 WHERE name = 'f';",
		"mode is text":          "UPDATE catalog SET mode = 'x' WHERE name = 'f';",
		"mode NULL":             "UPDATE catalog SET mode = NULL WHERE name = 'f';",
		"uid":                   "UPDATE catalog SET uid = -1 WHERE name = 'f';",
		"gid":                   "UPDATE catalog SET gid = 1 << 32 WHERE name = 'f';",
		"flags of 33 bits":      "UPDATE catalog SET flags = flags | (1 << 32) WHERE name = 'f';",
		"nanoseconds below 0":   "UPDATE catalog SET mtimens = -2 WHERE name = 'f';",
		"nanoseconds":           "UPDATE catalog SET mtimens = 1000000000 WHERE name = 'f';",
		"flags":                 "UPDATE catalog SET flags = 1 WHERE name = 'f';",
		"hash algorithm":        "UPDATE catalog SET flags = flags | 1792 WHERE name = 'f';",
		"chunked, no chunks":    "UPDATE catalog SET flags = flags | 64 WHERE name = 'f';",
		"chunks with a gap":     chunked("0, 4, zeroblob(20)", "5, 6, zeroblob(20)"),
		"chunks overlap":        chunked("0, 6, zeroblob(20)", "4, 4, zeroblob(20)"),
		"chunks too short":      chunked("0, 9, zeroblob(20)"),
		"chunk of no bytes":     chunked("0, 10, zeroblob(20)", "10, 0, zeroblob(20)"),
		"chunks overflow":       chunked("0, 9223372036854775807, zeroblob(20)", "9223372036854775807, 9223372036854775807, zeroblob(20)"),
		"chunk without hash":    chunked("0, 10, NULL"),
		"dangling row":          "UPDATE catalog SET parent_1 = 1 WHERE name = 'f';",
		"cycle":                 "UPDATE catalog SET parent_1 = md5path_1, parent_2 = md5path_2 WHERE name = 'd';",
		"no root":               "DELETE FROM catalog WHERE name = '';",
		"name twice":            "UPDATE catalog SET name = 'g' WHERE name = 'f';",
		"key of another path":   "UPDATE catalog SET name = 'other' WHERE name = 'f';",
		"child of a file":       "UPDATE catalog SET (parent_1, parent_2) = (SELECT md5path_1, md5path_2 FROM catalog WHERE name = 'f') WHERE name = 'g';",
		"child of mountpoint":   "UPDATE catalog SET flags = 3 WHERE name = 'd'; INSERT INTO nested_catalogs SELECT '/d', sha1, 1 FROM nested_catalogs;",
		"mountpoint, no row":    "DELETE FROM nested_catalogs;",
		"row, no mountpoint":    "INSERT INTO nested_catalogs VALUES ('/x', '', 1);",
		"row, other flag":       "UPDATE catalog SET flags = 1 WHERE name = 'n';",
		"nested as bind":        "INSERT INTO bind_mountpoints SELECT * FROM nested_catalogs; DELETE FROM nested_catalogs;",
		"two of one mountpoint": "CREATE TABLE x AS SELECT * FROM nested_catalogs; DROP TABLE nested_catalogs; CREATE TABLE nested_catalogs (path TEXT, sha1 TEXT, size INTEGER); INSERT INTO nested_catalogs SELECT * FROM x UNION ALL SELECT * FROM x;",
		"nested hash":           "UPDATE nested_catalogs SET sha1 = 'x';",
		"nested path":           "UPDATE nested_catalogs SET path = '/n/';",
		"nested size":           "UPDATE nested_catalogs SET size = -1;",
		"two rows of one path":  "CREATE TABLE c AS SELECT * FROM catalog; DROP TABLE catalog; CREATE TABLE catalog AS SELECT * FROM c UNION ALL SELECT * FROM c;",
	} {
		t.Run(name, func(t *testing.T) {
			path := sample(t)
			alter(t, path, script)
			index := filepath.Join(t.TempDir(), "index")
			if err := readAll(t.Context(), path, index); !errors.Is(err, catalog.ErrInvalid) {
				t.Errorf("read: %v", err)
			}
			if _, err := os.Stat(index); err == nil {
				t.Error("an index was written")
			}
		})
	}
}

func manyTables() string {
	s := ""
	for i := range 70 {
		s += "CREATE TABLE t" + string(rune('0'+i/10)) + string(rune('0'+i%10)) + " (x);"
	}
	return s
}

func chunked(rows ...string) string {
	s := "UPDATE catalog SET flags = flags | 64, hash = NULL WHERE name = 'f';"
	for _, r := range rows {
		s += "INSERT INTO chunks SELECT md5path_1, md5path_2, " + r + " FROM catalog WHERE name = 'f';"
	}
	return s
}

// Chunks of no file, a blob that is no list of xattrs and an empty digest are
// what stock clients do not mind.
func TestTolerated(t *testing.T) {
	path := sample(t)
	alter(t, path, `INSERT INTO chunks VALUES (1, 2, 0, 10, zeroblob(20));
		UPDATE catalog SET xattr = X'ff' WHERE name = 'f'; UPDATE catalog SET hash = X'' WHERE name = 'l';`)
	r := openReader(t, path)
	f := rowsOf(t, r)["/d/f"]
	if len(f.XAttrs) != 0 || !f.BadXAttrs {
		t.Errorf("%+v", f)
	}
	checkIndex(t, r, compile(t, r))
}

func TestHostileFiles(t *testing.T) {
	good, err := os.ReadFile(sample(t))
	must(t, err)
	patch := func(at int, b ...byte) []byte {
		db := append([]byte(nil), good...)
		copy(db[at:], b)
		return db
	}
	for name, db := range map[string][]byte{
		"empty":           nil,
		"short":           good[:99],
		"header only":     good[:100],
		"cut off":         good[:len(good)-4096],
		"no database":     patch(0, 'X'),
		"write-ahead log": patch(18, 2, 2),
		"UTF-16":          patch(59, 2),
		"page size":       patch(16, 0, 3),
		"no schema pages": append(append([]byte(nil), good[:100]...), make([]byte, len(good)-100)...),
	} {
		path := filepath.Join(t.TempDir(), "catalog")
		must(t, os.WriteFile(path, db, 0o600))
		if err := readAll(t.Context(), path, path+".index"); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := catalog.OpenWriter(path); !errors.Is(err, catalog.ErrInvalid) && name != "cut off" {
			t.Errorf("%s: OpenWriter: %v", name, err)
		}
	}
}

// A page that is its own sibling's child many times over would give an endless
// scan.
func TestLoopingPages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog")
	write(t, path, distribution(5000))
	db, err := os.ReadFile(path)
	must(t, err)
	// Interior pages of tables: let all cells of each lead to its first child.
	const page = 4096
	looped := 0
	for at := page; at < len(db); at += page {
		if db[at] != 5 {
			continue
		}
		cells := int(binary.BigEndian.Uint16(db[at+3:]))
		for i := range cells {
			first := int(binary.BigEndian.Uint16(db[at+12:]))
			cell := int(binary.BigEndian.Uint16(db[at+12+2*i:]))
			copy(db[at+cell:at+cell+4], db[at+first:])
		}
		looped += cells
	}
	if looped < 10 {
		t.Fatalf("only %d cells changed", looped)
	}
	must(t, os.WriteFile(path, db, 0o600))
	if err := readAll(t.Context(), path, path+".index"); !errors.Is(err, catalog.ErrInvalid) {
		t.Error(err)
	}
}

func TestScanIsCancelled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog")
	write(t, path, distribution(5000))
	r := openReader(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := r.Scan(ctx, func(catalog.Row) error {
		n++
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) || n == 5000 {
		t.Errorf("%d rows, %v", n, err)
	}
	stop := io.ErrClosedPipe
	if err := r.Scan(t.Context(), func(catalog.Row) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
}

func FuzzReader(f *testing.F) {
	path := sample(f)
	db, err := os.ReadFile(path)
	must(f, err)
	f.Add(db)
	downgrade(f, path, 0)
	db, err = os.ReadFile(path)
	must(f, err)
	f.Add(db)
	f.Add(db[:4096])
	f.Fuzz(func(t *testing.T, db []byte) {
		path := filepath.Join(t.TempDir(), "catalog")
		must(t, os.WriteFile(path, db, 0o600))
		if err := readAll(t.Context(), path, path+".index"); err != nil && !errors.Is(err, catalog.ErrInvalid) {
			t.Error(err)
		}
	})
}
