package catalog

import (
	"fmt"
	"strconv"

	"zombiezen.com/go/sqlite"

	"github.com/rootstock-cf/rootstock/catalog/internal/sqlfile"
)

// Nested returns the rows of nested_catalogs, by path.
func (w *Writer) Nested() ([]Nested, error) {
	return readNested(w.db, "nested_catalogs", w.layout.nested)
}

// SetNested inserts or updates the row of nested_catalogs for n.Path. A null
// hash is written as the empty string: not known yet.
func (w *Writer) SetNested(n Nested) error {
	if err := CheckPath(n.Path); err != nil {
		return fmt.Errorf("set nested catalog: %w", err)
	}
	if n.Path == w.prefix || !below(n.Path, w.prefix) || n.Size < 0 {
		return fmt.Errorf("%w: nested catalog %q of %d bytes in that of %q", ErrInvalid, n.Path, n.Size, w.prefix)
	}
	if err := w.db.Exec("UPDATE nested_catalogs SET sha1 = ?, size = ? WHERE path = ?", n.Hash.String(), n.Size, n.Path); err != nil {
		return fmt.Errorf("set nested catalog %q: %w", n.Path, err)
	}
	if w.db.Changes() > 0 {
		return nil
	}
	if err := w.db.Exec("INSERT INTO nested_catalogs (path, sha1, size) VALUES (?, ?, ?)", n.Path, n.Hash.String(), n.Size); err != nil {
		return fmt.Errorf("set nested catalog %q: %w", n.Path, err)
	}
	w.self.Nested++
	return nil
}

// RemoveNested deletes the row of nested_catalogs for path. It returns
// [ErrNotExist] if there is none.
func (w *Writer) RemoveNested(path string) error {
	err := w.db.Exec("DELETE FROM nested_catalogs WHERE path = ?", path)
	if err == nil && w.db.Changes() == 0 {
		err = ErrNotExist
	}
	if err != nil {
		return fmt.Errorf("remove nested catalog %q: %w", path, err)
	}
	w.self.Nested--
	return nil
}

// Finish writes the counters and the properties of rev, makes the row ids
// dense with the root as 1, and closes the file, which is then a complete
// catalog in rollback journal format. The Writer is closed even if it fails.
func (w *Writer) Finish(rev Revision) (self, subtree Counters, err error) {
	if err := w.finish(rev); err != nil {
		_ = w.db.Close() // the file is lost; why is in err
		return Counters{}, Counters{}, fmt.Errorf("finish catalog %q: %w", w.prefix, err)
	}
	return w.self, w.subtree, nil
}

func (w *Writer) finish(rev Revision) error {
	if w.rootID == 0 {
		return fmt.Errorf("%w: no root entry", ErrInvalid)
	}
	if err := w.compact(); err != nil {
		return fmt.Errorf("compact row ids: %w", err)
	}
	if err := writeCounters(w.db, w.self, w.subtree); err != nil {
		return err
	}
	if err := w.db.SetProperty("revision", strconv.FormatUint(rev.Number, 10)); err != nil {
		return err
	}
	if err := w.db.SetProperty("last_modified", strconv.FormatInt(rev.LastModified, 10)); err != nil {
		return err
	}
	if !rev.Previous.IsZero() {
		if err := w.db.SetProperty("previous_revision", rev.Previous.String()); err != nil {
			return err
		}
	}
	return w.db.Commit()
}

// compact gives the root row id 1 and moves the last rows into the gaps, so
// that a few removals do not rewrite a large catalog (CVMFS-FORMAT 2.11).
func (w *Writer) compact() error {
	if w.rootID != 1 {
		// Whoever has id 1, if anybody, changes places with the root.
		if err := w.move(1, -1); err != nil {
			return err
		}
		if err := w.move(w.rootID, 1); err != nil {
			return err
		}
		if err := w.move(-1, w.rootID); err != nil {
			return err
		}
	}
	gaps, err := w.gaps()
	if err != nil {
		return err
	}
	for _, gap := range gaps {
		err := w.db.Exec("UPDATE catalog SET rowid = ? WHERE rowid = (SELECT max(rowid) FROM catalog)", gap)
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) move(from, to int64) error {
	return w.db.Exec("UPDATE catalog SET rowid = ? WHERE rowid = ?", to, from)
}

// gaps returns the row ids from 1 to the number of rows that no row has.
func (w *Writer) gaps() ([]int64, error) {
	if w.maxID == w.rows {
		return nil, nil
	}
	var gaps []int64
	next := int64(1)
	err := w.db.Query("SELECT rowid FROM catalog NOT INDEXED WHERE rowid <= ? ORDER BY rowid",
		func(s *sqlite.Stmt) { s.BindInt64(1, w.rows) },
		func(r *sqlfile.Rows) error {
			for id := r.Int(0); next < id; next++ {
				gaps = append(gaps, next)
			}
			next++
			return nil
		})
	for ; next <= w.rows; next++ {
		gaps = append(gaps, next)
	}
	return gaps, err
}

func writeCounters(db *sqlfile.DB, self, subtree Counters) error {
	for _, c := range []struct {
		prefix string
		*Counters
	}{{"self_", &self}, {"subtree_", &subtree}} {
		for i, n := range c.fields() {
			if *n < 0 {
				return fmt.Errorf("%w: counter %s%s is %d", ErrInvalid, c.prefix, counterNames[i].name, *n)
			}
			err := db.Exec("INSERT OR REPLACE INTO statistics (counter, value) VALUES (?, ?)", c.prefix+counterNames[i].name, *n)
			if err != nil {
				return err
			}
		}
	}
	return nil
}
