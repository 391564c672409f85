package catalog

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/rootstock-cf/rootstock/catalog/internal/sqlfile"
	"github.com/rootstock-cf/rootstock/object"
)

// DefaultTTL holds where a root catalog states none.
const DefaultTTL = 240 * time.Second

// Reader reads a catalog of any schema that stock software reads: below 2.0,
// 2.4 and 2.5 with all revisions (CVMFS-FORMAT 2.1). It is not safe for
// concurrent use.
type Reader struct {
	db       *sqlfile.DB
	layout   layout
	props    map[string]string
	prefix   string
	revision uint64
	previous object.Hash
	ttl      time.Duration
}

// OpenReader opens the database at path, which must not change until
// [Reader.Close]. The file is taken to be hostile: contents that are not a
// catalog give [ErrInvalid].
func OpenReader(path string) (*Reader, error) {
	db, err := sqlfile.OpenReadOnly(path, ErrInvalid)
	if err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	r := &Reader{db: db}
	if err := r.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open catalog: %w", err), db.Close())
	}
	return r, nil
}

func (r *Reader) load() (err error) {
	if r.props, err = r.db.Properties(); err != nil {
		return err
	}
	if r.layout, err = layoutOf(r.db, r.props); err != nil {
		return err
	}
	if r.prefix, err = rootPrefix(r.props); err != nil {
		return err
	}
	if r.revision, err = r.db.Number(r.props, "revision"); err != nil {
		return err
	}
	if r.previous, err = r.db.Hash(r.props, "previous_revision"); err != nil {
		return err
	}
	r.ttl = DefaultTTL
	if s, ok := r.props["TTL"]; ok {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return fmt.Errorf("%w: TTL %q", ErrInvalid, s)
		}
		r.ttl = time.Duration(n) * time.Second // #nosec G115 -- 32 bits
	}
	return nil
}

func rootPrefix(props map[string]string) (string, error) {
	prefix := props["root_prefix"]
	if err := CheckPath(prefix); err != nil {
		return "", fmt.Errorf("root_prefix: %w", err)
	}
	return prefix, nil
}

// Close releases the database. Rows handed out stay valid.
func (r *Reader) Close() error { return r.db.Close() }

// Properties returns all properties (CVMFS-FORMAT 2.2).
func (r *Reader) Properties() map[string]string { return maps.Clone(r.props) }

// Schema returns the version and revision of the schema the file was written
// with.
func (r *Reader) Schema() (version float64, revision int) {
	return r.layout.version.Schema, r.layout.version.Revision
}

// Revision returns the number of times the catalog has been published.
func (r *Reader) Revision() uint64 { return r.revision }

// RootPrefix returns the path of the catalog's root, empty for the
// repository's. Where a catalog is bind-mounted it differs from the path it is
// attached at.
func (r *Reader) RootPrefix() string { return r.prefix }

// TTL returns how long clients keep the catalog without asking for a newer.
func (r *Reader) TTL() time.Duration { return r.ttl }

// Previous names the catalog this one replaces, null for the first.
func (r *Reader) Previous() object.Hash { return r.previous }

// Counters returns the stored statistics: of this catalog, and of all below
// it. Counters that the file's schema did not have yet are 0.
func (r *Reader) Counters() (self, subtree Counters, err error) {
	return readCounters(r.db, &r.layout)
}

// Nested returns the rows of nested_catalogs, in no order. A null hash is kept:
// the catalog cannot be attached.
func (r *Reader) Nested() ([]Nested, error) {
	return readNested(r.db, "nested_catalogs", r.layout.nested)
}

// Binds returns the rows of bind_mountpoints, in no order.
func (r *Reader) Binds() ([]Nested, error) {
	if !r.layout.binds {
		return nil, nil
	}
	return readNested(r.db, "bind_mountpoints", "path, sha1, size")
}

func readNested(db *sqlfile.DB, table, cols string) ([]Nested, error) {
	var all []Nested
	err := db.Query("SELECT "+cols+" FROM "+table+" NOT INDEXED", nil, func(r *sqlfile.Rows) error {
		path, hash, size := r.Text(0, maxPath), r.Text(1, 256), r.IntOr(2, 0)
		if r.Err() != nil {
			return nil
		}
		if err := CheckPath(path); err != nil || path == "" || size < 0 {
			return fmt.Errorf("%w: %s: %q of %d bytes", ErrInvalid, table, path, size)
		}
		h, err := sqlfile.ParseHash(hash)
		if err != nil {
			return fmt.Errorf("%w: %s: %s: %w", ErrInvalid, table, path, err)
		}
		all = append(all, Nested{Path: path, Hash: h, Size: size})
		return nil
	})
	return all, err
}

func readCounters(db *sqlfile.DB, l *layout) (self, subtree Counters, err error) {
	if l.isLegacy() {
		return self, subtree, nil
	}
	have := map[string]int64{}
	err = db.Query("SELECT counter, value FROM statistics NOT INDEXED", nil, func(r *sqlfile.Rows) error {
		name, n := r.Text(0, maxName), r.Int(1)
		if n < 0 {
			return fmt.Errorf("%w: counter %s is %d", ErrInvalid, name, n)
		}
		have[name] = n
		return nil
	})
	if err != nil {
		return self, subtree, err
	}
	for prefix, c := range map[string]*Counters{"self_": &self, "subtree_": &subtree} {
		fields := c.fields()
		for i, k := range counterNames {
			n, ok := have[prefix+k.name]
			if !ok && l.version.Revision >= k.since {
				return self, subtree, fmt.Errorf("%w: %s: counter %s%s is missing", ErrInvalid, db.Path(), prefix, k.name)
			}
			*fields[i] = n
		}
	}
	return self, subtree, nil
}
