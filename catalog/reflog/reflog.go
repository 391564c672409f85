// Package reflog is the list of every root object a repository has ever had:
// root catalogs, certificates, histories and metainfo, in the SQLite file
// .cvmfsreflog at the repository's root (CVMFS-FORMAT 3.3).
//
// Garbage collection starts from it, since after a rollback the chain of
// previous revisions no longer leads everywhere. A publisher opens a copy, adds
// what it publishes, finishes it and stores the file.
package reflog

import (
	"errors"
	"fmt"
	"io/fs"

	"zombiezen.com/go/sqlite"

	"github.com/rootstock-cf/rootstock/catalog/internal/sqlfile"
	"github.com/rootstock-cf/rootstock/object"
)

// ErrInvalid reports a database that is not a reflog, or an object that no
// reflog lists.
var ErrInvalid = errors.New("invalid reflog")

// ErrNotExist reports an object that the reflog does not list.
var ErrNotExist = fmt.Errorf("reflog entry %w", fs.ErrNotExist)

const (
	schema         = "1.0"
	schemaNumber   = 1.0
	schemaRevision = 0
	ddl            = sqlfile.Properties + "CREATE TABLE refs (hash TEXT, type INTEGER, timestamp INTEGER, CONSTRAINT pk_refs PRIMARY KEY (hash));"
	maxHash        = 64 // bytes
)

// types are the kinds of objects by their number in the table.
var types = [...]object.Type{object.Catalog, object.Certificate, object.History, object.Metainfo}

// Ref is one object.
type Ref struct {
	Hash      object.Hash
	Type      object.Type // Catalog (a root catalog), Certificate, History or Metainfo
	Timestamp int64       // UNIX seconds of when it was added last
}

// Log is an open reflog. The file is a temporary until [Log.Finish] has
// returned; the same calls give the same bytes. It is not safe for concurrent
// use.
type Log struct {
	db   *sqlfile.DB
	fqrn string
}

// Create makes an empty reflog of the repository fqrn at path, where no file
// or an empty one must be.
func Create(path, fqrn string) (*Log, error) {
	if fqrn == "" {
		return nil, fmt.Errorf("create reflog: %w: no repository name", ErrInvalid)
	}
	db, err := sqlfile.Create(path, ddl, ErrInvalid)
	if err != nil {
		return nil, fmt.Errorf("create reflog: %w", err)
	}
	if err = db.SetVersion(schema, schemaRevision); err == nil {
		err = db.SetProperty("fqrn", fqrn)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create reflog: %w", err), db.Close())
	}
	return &Log{db, fqrn}, nil
}

// Open opens the reflog at path, a private copy, to read and to change it.
// Contents that are no reflog give [ErrInvalid].
func Open(path string) (*Log, error) {
	db, err := sqlfile.OpenReadWrite(path, ErrInvalid)
	if err != nil {
		return nil, fmt.Errorf("open reflog: %w", err)
	}
	l := &Log{db: db}
	if err := l.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open reflog: %w", err), db.Close())
	}
	return l, nil
}

func (l *Log) load() error {
	props, err := l.db.Properties()
	if err != nil {
		return err
	}
	v, err := l.db.VersionOf(props)
	if err != nil {
		return err
	}
	if !v.Is(schemaNumber) {
		return fmt.Errorf("%w: schema %g is unknown; this version reads %s", ErrInvalid, v.Schema, schema)
	}
	if l.fqrn = props["fqrn"]; l.fqrn == "" {
		return fmt.Errorf("%w: it does not say which repository it belongs to", ErrInvalid)
	}
	have, err := l.db.Columns("refs")
	if err == nil && len(have) == 0 {
		err = fmt.Errorf("%w: there is no table of objects", ErrInvalid)
	}
	return err
}

// FQRN returns the name of the repository.
func (l *Log) FQRN() string { return l.fqrn }

// Add lists an object, or renews the time of one that is listed; timestamp is
// in UNIX seconds.
func (l *Log) Add(h object.Hash, t object.Type, timestamp int64) error {
	for i, known := range types {
		if t != known || h.IsZero() {
			continue
		}
		err := l.db.Exec("INSERT OR REPLACE INTO refs (hash, type, timestamp) VALUES (?, ?, ?)", h.String(), int64(i), timestamp)
		if err != nil {
			return fmt.Errorf("add %s %s to reflog: %w", t, h, err)
		}
		return nil
	}
	return fmt.Errorf("%w: %s %q is no root object", ErrInvalid, t, h)
}

// Has reports whether an object is listed, as whatever type.
func (l *Log) Has(h object.Hash) (bool, error) {
	refs, err := l.query("WHERE hash = ?", func(s *sqlite.Stmt) { s.BindText(1, h.String()) })
	if err != nil {
		return false, fmt.Errorf("look up %s in reflog: %w", h, err)
	}
	return len(refs) > 0, nil
}

// List returns all objects, oldest first.
func (l *Log) List() ([]Ref, error) {
	refs, err := l.query("ORDER BY timestamp, type, hash", nil)
	if err != nil {
		return nil, fmt.Errorf("list reflog: %w", err)
	}
	return refs, nil
}

func (l *Log) query(where string, bind func(*sqlite.Stmt)) ([]Ref, error) {
	var refs []Ref
	err := l.db.Query("SELECT hash, type, timestamp FROM refs "+where, bind, func(r *sqlfile.Rows) error {
		hash, t, timestamp := r.Text(0, maxHash), r.Int(1), r.Int(2)
		if r.Err() != nil {
			return nil
		}
		h, err := sqlfile.ParseHash(hash)
		if err != nil || h.IsZero() || t < 0 || t >= int64(len(types)) {
			return fmt.Errorf("%w: object %q of type %d", ErrInvalid, hash, t)
		}
		refs = append(refs, Ref{h, types[t], timestamp})
		return nil
	})
	return refs, err
}

// Remove takes an object off the list. It returns [ErrNotExist] for one that
// is not on it.
func (l *Log) Remove(h object.Hash) error {
	err := l.db.Exec("DELETE FROM refs WHERE hash = ?", h.String())
	if err == nil && l.db.Changes() == 0 {
		err = ErrNotExist
	}
	if err != nil {
		return fmt.Errorf("remove %s from reflog: %w", h, err)
	}
	return nil
}

// Finish closes the file, which is then complete. The Log is closed even if it
// fails.
func (l *Log) Finish() error {
	if err := l.db.Commit(); err != nil {
		return fmt.Errorf("finish reflog: %w", err)
	}
	return nil
}

// Close abandons all changes. It does nothing after Finish.
func (l *Log) Close() error { return l.db.Close() }
