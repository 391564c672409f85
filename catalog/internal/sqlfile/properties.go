package sqlfile

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"zombiezen.com/go/sqlite"

	"github.com/rootstock-cf/rootstock/object"
)

// Properties is the table every file of this format has.
const Properties = "CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key));\n"

const (
	maxProperties = 1024
	maxKey        = 256      // bytes
	maxProperty   = 64 << 10 // bytes
)

// Properties returns the whole table.
func (d *DB) Properties() (map[string]string, error) {
	props := map[string]string{}
	// Values are text by affinity, except in files whose table says otherwise.
	err := d.Query("SELECT key, CAST(value AS TEXT) AS value FROM properties NOT INDEXED WHERE value IS NOT NULL", nil, func(r *Rows) error {
		props[r.Text(0, maxKey)] = r.Text(1, maxProperty)
		if len(props) > maxProperties {
			return fmt.Errorf("%w: %s: more than %d properties", d.invalid, d.path, maxProperties)
		}
		return nil
	})
	return props, err
}

// Property returns one value.
func (d *DB) Property(key string) (value string, ok bool, err error) {
	err = d.Query("SELECT CAST(value AS TEXT) AS value FROM properties WHERE key = ?",
		func(s *sqlite.Stmt) { s.BindText(1, key) },
		func(r *Rows) error {
			value, ok = r.Text(0, maxProperty), true
			return nil
		})
	return value, ok, err
}

// SetProperty inserts or replaces one value.
func (d *DB) SetProperty(key, value string) error {
	if key == "" || len(key) > maxKey || len(value) > maxProperty {
		return fmt.Errorf("property %q of %d bytes is more than a file holds", key, len(value))
	}
	return d.Exec("INSERT OR REPLACE INTO properties (key, value) VALUES (?, ?)", key, value)
}

// SetVersion writes schema and schema_revision.
func (d *DB) SetVersion(schema string, revision int) error {
	return errors.Join(
		d.SetProperty("schema", schema),
		d.SetProperty("schema_revision", strconv.Itoa(revision)),
	)
}

// Version is the schema a file states. Versions are decimals, compared with a
// tolerance (CVMFS-FORMAT 0.5).
type Version struct {
	Schema   float64
	Revision int
}

// VersionOf reads the version out of a file's properties.
func (d *DB) VersionOf(props map[string]string) (Version, error) {
	v := Version{Schema: 1}
	if s, ok := props["schema"]; ok {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || !(f >= 0 && f < 1000) {
			return v, fmt.Errorf("%w: %s: schema %q", d.invalid, d.path, s)
		}
		v.Schema = f
	}
	if s, ok := props["schema_revision"]; ok {
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil {
			return v, fmt.Errorf("%w: %s: schema revision %q", d.invalid, d.path, s)
		}
		v.Revision = int(n) // #nosec G115 -- 31 bits
	}
	return v, nil
}

// Is reports whether v is of the given schema, whatever its revision.
func (v Version) Is(schema float64) bool { return math.Abs(v.Schema-schema) < 0.0005 }

// Number reads a decimal property; it is 0 if absent.
func (d *DB) Number(props map[string]string, key string) (uint64, error) {
	s, ok := props[key]
	if !ok {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %s: %s %q is not a number", d.invalid, d.path, key, s)
	}
	return n, nil
}

// Hash reads a property that names an object; it is null if absent.
func (d *DB) Hash(props map[string]string, key string) (object.Hash, error) {
	h, err := ParseHash(props[key])
	if err != nil {
		return h, fmt.Errorf("%w: %s: %s: %w", d.invalid, d.path, key, err)
	}
	return h, nil
}

// ParseHash reads a hash as the databases hold it: the null hash is either
// empty or, in the first history of a stock repository, all zeros.
func ParseHash(text string) (object.Hash, error) {
	if text == "" {
		return object.Hash{}, nil
	}
	h, err := object.ParseHash(text)
	if err != nil || h.Digest == [object.DigestSize]byte{} {
		return object.Hash{}, err
	}
	return h, nil
}

// maxFreePercent is how much of a file may be free pages, in percent, before
// it is rewritten; the stock writer has the same bound (CVMFS-FORMAT 2.11).
const maxFreePercent = 20

// Commit ends the transaction, gives free pages back if they are many, and
// closes the file, which is then complete in itself. The DB is closed even if
// it fails.
func (d *DB) Commit() (err error) {
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.Exec("COMMIT"); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	var free, all int64
	for query, n := range map[string]*int64{"PRAGMA freelist_count": &free, "PRAGMA page_count": &all} {
		if err := d.Query(query, nil, func(r *Rows) error { *n = r.Int(0); return nil }); err != nil {
			return err
		}
	}
	if free*100 <= all*maxFreePercent {
		return nil
	}
	// VACUUM works in an attached database.
	d.conn.Limit(sqlite.LimitAttached, 1)
	return d.Exec("VACUUM")
}
