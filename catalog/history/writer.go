package history

import (
	"errors"
	"fmt"
	"math"

	"zombiezen.com/go/sqlite"

	"github.com/rootstock-cf/rootstock/catalog/internal/sqlfile"
	"github.com/rootstock-cf/rootstock/object"
)

// The version written.
const (
	schema         = "1.0"
	schemaNumber   = 1.0
	schemaRevision = 3
)

const (
	ddlBranches = `CREATE TABLE branches (branch TEXT, parent TEXT, initial_revision INTEGER, CONSTRAINT pk_branch PRIMARY KEY (branch), FOREIGN KEY (parent) REFERENCES branches (branch), CHECK ((branch <> '') OR (parent IS NULL)), CHECK ((branch = '') OR (parent IS NOT NULL)));`
	ddlTrunk    = `INSERT INTO branches (branch, parent, initial_revision) VALUES ('', NULL, 0);`
	ddlRecycle  = `CREATE TABLE recycle_bin (hash TEXT, flags INTEGER, CONSTRAINT pk_hash PRIMARY KEY (hash));`
	ddlTags     = `CREATE TABLE tags (name TEXT, hash TEXT, revision INTEGER, timestamp INTEGER, channel INTEGER, description TEXT, size INTEGER, branch TEXT, CONSTRAINT pk_tags PRIMARY KEY (name), FOREIGN KEY (branch) REFERENCES branches (branch));`
	ddl         = sqlfile.Properties + ddlBranches + ddlTrunk + ddlTags + ddlRecycle
)

// trunkDescription is what stock tools call trunk.
const trunkDescription = "current HEAD"

// Writer changes a history. The file is a temporary until [Writer.Finish] has
// returned; the same calls give the same bytes. What a Reader does, it does on
// the tags as they are now.
type Writer struct {
	*Reader
}

// Create makes an empty history of the repository fqrn at path, where no file
// or an empty one must be.
func Create(path, fqrn string) (*Writer, error) {
	if fqrn == "" {
		return nil, fmt.Errorf("create history: %w: no repository name", ErrInvalid)
	}
	db, err := sqlfile.Create(path, ddl, ErrInvalid)
	if err != nil {
		return nil, fmt.Errorf("create history: %w", err)
	}
	w := &Writer{&Reader{db: db}}
	if err = db.SetVersion(schema, schemaRevision); err == nil {
		err = db.SetProperty("fqrn", fqrn)
	}
	if err == nil {
		_, err = w.load()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create history: %w", err), db.Close())
	}
	return w, nil
}

// OpenWriter opens the history at path for changes and brings an older schema
// revision to the newest. The file is changed in place and must not be used if
// Finish is not reached.
func OpenWriter(path string) (*Writer, error) {
	db, err := sqlfile.OpenReadWrite(path, ErrInvalid)
	if err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	w := &Writer{&Reader{db: db}}
	revision, err := w.load()
	if err == nil && revision < schemaRevision {
		if err = migrate(db, revision); err == nil {
			_, err = w.load()
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open history: %w", err), db.Close())
	}
	return w, nil
}

func migrate(db *sqlfile.DB, revision int) error {
	for _, step := range []struct {
		revision int
		sql      string
	}{
		{1, "ALTER TABLE tags ADD size INTEGER"},
		{2, ddlRecycle},
		{3, ddlBranches},
		{3, ddlTrunk},
		{3, "ALTER TABLE tags ADD branch TEXT REFERENCES branches (branch)"},
		{3, "UPDATE tags SET branch = ''"},
		{3, "DELETE FROM recycle_bin"},
	} {
		if revision >= step.revision {
			continue
		}
		if err := db.Exec(step.sql); err != nil {
			return fmt.Errorf("migrate to revision %d: %w", step.revision, err)
		}
	}
	return db.SetVersion(schema, schemaRevision)
}

// Add inserts a tag. It returns [ErrExist] if the name is taken and
// [ErrInvalid] for a tag the format cannot hold.
func (w *Writer) Add(t Tag) error { return w.put("INSERT", t) }

// Replace inserts a tag, in place of one of that name.
func (w *Writer) Replace(t Tag) error { return w.put("INSERT OR REPLACE", t) }

func (w *Writer) put(verb string, t Tag) error {
	if err := CheckName(t.Name); err != nil {
		return err
	}
	if t.Root.IsZero() || t.Revision > math.MaxInt64 || t.Size < 0 || len(t.Description) > maxDescription {
		return fmt.Errorf("%w: tag %s: root %q, revision %d, size %d, description of %d bytes",
			ErrInvalid, t.Name, t.Root, t.Revision, t.Size, len(t.Description))
	}
	if t.Branch != "" {
		known := false
		err := w.db.Query("SELECT 1 FROM branches WHERE branch = ?",
			func(s *sqlite.Stmt) { s.BindText(1, t.Branch) },
			func(*sqlfile.Rows) error { known = true; return nil })
		if err == nil && !known {
			err = fmt.Errorf("%w: there is no branch %q", ErrInvalid, t.Branch)
		}
		if err != nil {
			return fmt.Errorf("tag %s: %w", t.Name, err)
		}
	}
	err := w.db.Exec(verb+" INTO tags (name, hash, revision, timestamp, channel, description, size, branch) VALUES (?, ?, ?, ?, 0, ?, ?, ?)",
		t.Name, t.Root.String(), int64(t.Revision), t.Timestamp, t.Description, t.Size, t.Branch) // #nosec G115 -- checked
	if err != nil {
		if sqlite.ErrCode(err).ToPrimary() == sqlite.ResultConstraint {
			err = ErrExist
		}
		return fmt.Errorf("tag %s: %w", t.Name, err)
	}
	return nil
}

// Remove deletes a tag. It returns [ErrNotExist] if there is none of that
// name.
func (w *Writer) Remove(name string) error {
	err := w.db.Exec("DELETE FROM tags WHERE name = ?", name)
	if err == nil && w.db.Changes() == 0 {
		err = ErrNotExist
	}
	if err != nil {
		return fmt.Errorf("remove tag %s: %w", name, err)
	}
	return nil
}

// Publish makes trunk the revision given, of which size is the root catalog's
// uncompressed size in bytes and timestamp its last_modified in UNIX seconds;
// trunk-previous becomes what trunk was.
func (w *Writer) Publish(root object.Hash, revision uint64, timestamp, size int64) error {
	old, ok, err := w.Get(Trunk)
	if err != nil {
		return err
	}
	if ok {
		old.Name, old.Description = TrunkPrevious, "default undo target"
		if err := w.Replace(old); err != nil {
			return err
		}
	}
	return w.Replace(Tag{
		Name: Trunk, Root: root, Revision: revision, Timestamp: timestamp, Size: size,
		Description: trunkDescription,
	})
}

// Finish names the history this one replaces, null for none, and closes the
// file, which is then complete. The Writer is closed even if it fails.
func (w *Writer) Finish(previous object.Hash) error {
	if !previous.IsZero() {
		if err := w.db.SetProperty("previous_revision", previous.String()); err != nil {
			return errors.Join(fmt.Errorf("finish history: %w", err), w.db.Close())
		}
	}
	if err := w.db.Commit(); err != nil {
		return fmt.Errorf("finish history: %w", err)
	}
	return nil
}
