package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/rootstock-cf/rootstock/catalog/internal/sqlfile"
	"github.com/rootstock-cf/rootstock/object"
)

var (
	// ErrExist reports an entry or catalog that is there already.
	ErrExist = fmt.Errorf("catalog entry %w", fs.ErrExist)
	// ErrNotExist reports an entry or catalog that is not there.
	ErrNotExist = fmt.Errorf("catalog entry %w", fs.ErrNotExist)
)

// CreateOptions say what a new catalog is.
type CreateOptions struct {
	// RootPrefix is the path of the catalog's root, empty for the root
	// catalog.
	RootPrefix string
	// TTL is written to a root catalog, in whole seconds, unless it is 0.
	TTL time.Duration
	// Volatile marks a root catalog whose contents caches evict first.
	Volatile bool
}

// Writer changes a catalog. The file is a temporary until [Writer.Finish] has
// returned: nothing is synced, and a crash leaves it unusable. The same calls
// give the same bytes. It is not safe for concurrent use.
//
// Every path is a full path of the repository, at or below the catalog's root.
// The self counters follow each change; keeping link counts, the two rows of a
// transition point and the subtree counters right is the caller's.
type Writer struct {
	db     *sqlfile.DB
	layout layout
	prefix string

	self, subtree Counters

	rows     int64
	maxID    int64 // largest row id there has been
	rootID   int64 // row id of the catalog's root, 0 before it is added
	maxGroup uint32

	stmts statements
}

// statements are compiled once per Writer.
type statements struct {
	insert, update, remove, lookup, list, chunks, addChunk, dropChunks *sqlite.Stmt
}

// Create makes a new catalog at path, where no file or an empty one must be.
// If it fails, or after [Writer.Close], the file is the caller's to remove.
func Create(path string, o CreateOptions) (*Writer, error) {
	if err := CheckPath(o.RootPrefix); err != nil {
		return nil, fmt.Errorf("create catalog: %w", err)
	}
	db, err := sqlfile.Create(path, ddl, ErrInvalid)
	if err != nil {
		return nil, fmt.Errorf("create catalog: %w", err)
	}
	w := &Writer{db: db, prefix: o.RootPrefix}
	err = db.SetVersion(schema, schemaRevision)
	if err == nil {
		err = db.SetProperty("revision", "0")
	}
	if err == nil && o.RootPrefix != "" {
		err = db.SetProperty("root_prefix", o.RootPrefix)
	}
	if err == nil && o.RootPrefix == "" && o.TTL != 0 {
		err = db.SetProperty("TTL", strconv.FormatInt(int64(o.TTL/time.Second), 10))
	}
	if err == nil && o.RootPrefix == "" && o.Volatile {
		err = db.SetProperty("volatile", "1")
	}
	if err == nil {
		err = w.load()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create catalog: %w", err), db.Close())
	}
	return w, nil
}

// OpenWriter opens the catalog at path for changes. Schema 2.5 of an older
// revision is brought to revision 7 first, its self counters computed anew;
// any other schema is [ErrInvalid]. The file is changed in place and must not
// be used if Finish is not reached.
func OpenWriter(path string) (*Writer, error) {
	db, err := sqlfile.OpenReadWrite(path, ErrInvalid)
	if err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	w := &Writer{db: db}
	if err := w.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open catalog: %w", err), db.Close())
	}
	return w, nil
}

func (w *Writer) open() error {
	if err := migrate(w.db); err != nil {
		return err
	}
	if err := w.load(); err != nil {
		return err
	}
	var err error
	if w.self, w.subtree, err = readCounters(w.db, &w.layout); err != nil {
		return err
	}
	err = w.db.Query("SELECT count(*), min(rowid), max(rowid), max((hardlinks >> 32) & 4294967295) FROM catalog", nil,
		func(r *sqlfile.Rows) error {
			w.rows, w.maxID = r.Int(0), r.IntOr(2, 0)
			w.maxGroup = uint32(r.IntOr(3, 0)) // #nosec G115 -- masked
			if id := r.IntOr(1, 1); id < 1 {
				return fmt.Errorf("%w: %s: row id %d", ErrInvalid, w.db.Path(), id)
			}
			return nil
		})
	if err != nil {
		return err
	}
	root, ok, err := w.lookup(w.prefix)
	if err == nil && !ok {
		err = fmt.Errorf("%w: %s has no root entry %q", ErrInvalid, w.db.Path(), w.prefix)
	}
	w.rootID = root.ID
	return err
}

// load reads what a Writer needs to know of any catalog and compiles its
// statements.
func (w *Writer) load() error {
	props, err := w.db.Properties()
	if err != nil {
		return err
	}
	if w.layout, err = layoutOf(w.db, props); err != nil {
		return err
	}
	if w.prefix, err = rootPrefix(props); err != nil {
		return err
	}
	return w.prepare()
}

// Close abandons all changes. The file stays, as it was before OpenWriter or
// unfinished after Create. It does nothing after Finish.
func (w *Writer) Close() error { return w.db.Close() }

// RootPrefix returns the path of the catalog's root, empty for the
// repository's.
func (w *Writer) RootPrefix() string { return w.prefix }

// Len returns the number of rows.
func (w *Writer) Len() int64 { return w.rows }

// Self returns the counters of this catalog, as they are now.
func (w *Writer) Self() Counters { return w.self }

// Subtree returns the counters of all catalogs below this one.
func (w *Writer) Subtree() Counters { return w.subtree }

// AddSubtree adds delta, which may be negative, to the subtree counters. After
// a nested catalog was finished, that is what its self and subtree counters
// changed by.
func (w *Writer) AddSubtree(delta Counters) { w.subtree = w.subtree.Add(delta) }

// MaxGroup returns the largest number of a hard link group that any row has
// had since the catalog was opened: the next group is one more.
func (w *Writer) MaxGroup() uint32 { return w.maxGroup }

// Property returns a property of CVMFS-FORMAT 2.2.
func (w *Writer) Property(key string) (value string, ok bool, err error) {
	return w.db.Property(key)
}

// SetProperty sets a property. Finish sets those that change with a revision.
func (w *Writer) SetProperty(key, value string) error { return w.db.SetProperty(key, value) }

// Revision is what sets a finished catalog apart from its predecessor.
type Revision struct {
	Number       uint64
	Previous     object.Hash // null for a first catalog
	LastModified int64       // UNIX seconds
}
