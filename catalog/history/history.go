// Package history is a repository's tags: names for root catalogs, kept in an
// SQLite database that the manifest points to (CVMFS-FORMAT 3.2).
//
// A publisher opens a copy of the current database with [OpenWriter], adds
// tags, records the new head with [Writer.Publish] and stores the finished
// file as a new object. Clients look tags up with [Open].
package history

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/rootstock-cf/rootstock/catalog/internal/sqlfile"
	"github.com/rootstock-cf/rootstock/object"
)

var (
	// ErrInvalid reports a database that is not a history this package can
	// read, or a tag it cannot hold.
	ErrInvalid = errors.New("invalid history")
	// ErrExist reports a tag that is there already.
	ErrExist = fmt.Errorf("tag %w", fs.ErrExist)
	// ErrNotExist reports a tag that is not there.
	ErrNotExist error = noTag{}
)

// noTag is fs.ErrNotExist in words that fit.
type noTag struct{}

func (noTag) Error() string { return "there is no such tag" }
func (noTag) Unwrap() error { return fs.ErrNotExist }

// Reserved names: the newest revision, and the one before it.
const (
	Trunk         = "trunk"
	TrunkPrevious = "trunk-previous"
)

const (
	maxName        = 255      // bytes
	maxDescription = 64 << 10 // bytes
	autoTagLayout  = "2006-01-02T15:04:05Z"
)

// Tag names a revision of the repository.
type Tag struct {
	Name        string
	Root        object.Hash // of the root catalog
	Revision    uint64
	Timestamp   int64 // UNIX seconds
	Size        int64 // bytes of the root catalog, uncompressed; 0 if unknown
	Description string
	Branch      string // empty for the default branch
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9_./:-]+$`)

// CheckName returns [ErrInvalid] for what is not a tag's name: letters,
// digits and -_./: up to 255 bytes.
func CheckName(name string) error {
	if len(name) > maxName || !nameForm.MatchString(name) {
		return fmt.Errorf("%w: tag name %q: use letters, digits and - _ . / : only", ErrInvalid, name)
	}
	return nil
}

var autoTag = regexp.MustCompile(`^generic(_[0-9]+)?-[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,3})?Z`)

// IsAuto reports whether name is one that publishing makes by itself.
func IsAuto(name string) bool { return autoTag.MatchString(name) }

// AutoName returns the name publishing gives to what it published at t; n
// counts names that are taken already.
func AutoName(t time.Time, n int) string {
	prefix := "generic"
	if n > 0 {
		prefix = fmt.Sprintf("generic_%d", n)
	}
	return prefix + "-" + t.UTC().Format(autoTagLayout)
}

// Reader looks up tags in a history of any schema revision. It is not safe for
// concurrent use.
type Reader struct {
	db       *sqlfile.DB
	columns  string
	fqrn     string
	previous object.Hash
}

// Open opens the database at path, which must not change until Close. Contents
// that are no history give [ErrInvalid].
func Open(path string) (*Reader, error) {
	db, err := sqlfile.OpenReadOnly(path, ErrInvalid)
	if err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	r := &Reader{db: db}
	if _, err := r.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open history: %w", err), db.Close())
	}
	return r, nil
}

// load reads the properties and returns the schema revision.
func (r *Reader) load() (int, error) {
	props, err := r.db.Properties()
	if err != nil {
		return 0, err
	}
	v, err := r.db.VersionOf(props)
	if err != nil {
		return 0, err
	}
	if !v.Is(schemaNumber) {
		return 0, fmt.Errorf("%w: schema %g is unknown; this version reads %s", ErrInvalid, v.Schema, schema)
	}
	if r.fqrn = props["fqrn"]; r.fqrn == "" {
		return 0, fmt.Errorf("%w: it does not say which repository it belongs to", ErrInvalid)
	}
	if r.previous, err = r.db.Hash(props, "previous_revision"); err != nil {
		return 0, err
	}
	r.columns = "name, hash, revision, timestamp, description, "
	switch {
	case v.Revision < 1:
		r.columns += "0 AS size, '' AS branch"
	case v.Revision < 3:
		r.columns += "size, '' AS branch"
	default:
		r.columns += "size, branch"
	}
	have, err := r.db.Columns("tags")
	if err == nil && len(have) == 0 {
		err = fmt.Errorf("%w: there is no table of tags", ErrInvalid)
	}
	return v.Revision, err
}

// Close releases the database.
func (r *Reader) Close() error { return r.db.Close() }

// FQRN returns the name of the repository.
func (r *Reader) FQRN() string { return r.fqrn }

// Previous names the history this one replaces, null for the first.
func (r *Reader) Previous() object.Hash { return r.previous }

// Get returns a tag by name.
func (r *Reader) Get(name string) (Tag, bool, error) {
	tags, err := r.query("SELECT "+r.columns+" FROM tags WHERE name = ?", func(s *sqlite.Stmt) { s.BindText(1, name) })
	if err != nil {
		return Tag{}, false, fmt.Errorf("look up tag %s: %w", name, err)
	}
	if len(tags) == 0 {
		return Tag{}, false, nil
	}
	return tags[0], true, nil
}

// ByDate returns what was the newest revision at t, in UNIX seconds: of the
// tags of the default branch that are not younger, the one of the highest
// revision.
func (r *Reader) ByDate(t int64) (Tag, bool, error) {
	tags, err := r.List()
	if err != nil {
		return Tag{}, false, err
	}
	var best Tag
	found := false
	for _, tag := range tags {
		if tag.Branch == "" && tag.Timestamp <= t && (!found || tag.Revision > best.Revision) {
			best, found = tag, true
		}
	}
	return best, found, nil
}

// List returns all tags, youngest first.
func (r *Reader) List() ([]Tag, error) {
	// Sorted here, not by SQLite: a hostile file must not make it sort more
	// rows than it holds.
	tags, err := r.query("SELECT "+r.columns+" FROM tags NOT INDEXED", nil)
	if err != nil {
		return nil, fmt.Errorf("list tags: %w", err)
	}
	slices.SortFunc(tags, func(a, b Tag) int {
		return cmp.Or(cmp.Compare(b.Timestamp, a.Timestamp), cmp.Compare(b.Revision, a.Revision), cmp.Compare(a.Name, b.Name))
	})
	return tags, nil
}

func (r *Reader) query(query string, bind func(*sqlite.Stmt)) ([]Tag, error) {
	var tags []Tag
	err := r.db.Query(query, bind, func(rows *sqlfile.Rows) error {
		t := Tag{
			Name: rows.Text(0, maxName), Timestamp: rows.Int(3), Description: rows.TextOr(4, maxDescription, ""),
			Size: rows.IntOr(5, 0), Branch: rows.TextOr(6, maxName, ""),
		}
		hash, revision := rows.Text(1, maxName), rows.Int(2)
		if rows.Err() != nil {
			return nil
		}
		if err := CheckName(t.Name); err != nil {
			return err
		}
		h, err := sqlfile.ParseHash(hash)
		if err != nil || h.IsZero() || revision < 0 || t.Size < 0 {
			return fmt.Errorf("%w: tag %s: hash %q, revision %d, size %d", ErrInvalid, t.Name, hash, revision, t.Size)
		}
		t.Root, t.Revision = h, uint64(revision)
		tags = append(tags, t)
		return nil
	})
	return tags, err
}
