package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/rootstock-cf/rootstock/catalog/internal/sqlfile"
)

func (w *Writer) prepare() error {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	marks := "(" + strings.Repeat("?, ", len(names)-1) + "?)"
	s := &w.stmts
	for _, p := range []struct {
		stmt  **sqlite.Stmt
		query string
	}{
		{&s.insert, "INSERT INTO catalog (" + strings.Join(names, ", ") + ") VALUES " + marks},
		{&s.update, "UPDATE catalog SET (" + strings.Join(names[2:], ", ") + ") = (" + strings.Repeat("?, ", len(names)-3) + "?) WHERE rowid = ?"},
		{&s.remove, "DELETE FROM catalog WHERE rowid = ?"},
		{&s.lookup, "SELECT " + w.layout.row + " FROM catalog WHERE md5path_1 = ? AND md5path_2 = ?"},
		{&s.list, "SELECT " + w.layout.row + " FROM catalog WHERE parent_1 = ? AND parent_2 = ?"},
		{&s.chunks, "SELECT offset, size, hash FROM chunks WHERE md5path_1 = ? AND md5path_2 = ? ORDER BY offset"},
		{&s.addChunk, "INSERT INTO chunks (md5path_1, md5path_2, offset, size, hash) VALUES (?, ?, ?, ?, ?)"},
		{&s.dropChunks, "DELETE FROM chunks WHERE md5path_1 = ? AND md5path_2 = ?"},
	} {
		stmt, err := w.db.Prepare(p.query)
		if err != nil {
			return err
		}
		*p.stmt = stmt
	}
	return nil
}

// encoded is what of an entry has to be computed before it is bound.
type encoded struct {
	flags uint32
	xattr []byte
}

// encode checks that e may stand at path in this catalog.
func (w *Writer) encode(path string, e *Entry) (encoded, error) {
	fail := func(err error) (encoded, error) { return encoded{}, fmt.Errorf("%q: %w", path, err) }
	if err := CheckPath(path); err != nil {
		return fail(err)
	}
	if !below(path, w.prefix) {
		return fail(fmt.Errorf("%w: not below %q, the catalog's root", ErrInvalid, w.prefix))
	}
	if name := nameOf(path); e.Name != "" && e.Name != name {
		return fail(fmt.Errorf("%w: entry is named %q", ErrInvalid, e.Name))
	}
	if path == w.prefix && !e.IsDir() {
		return fail(fmt.Errorf("%w: root of mode %#o", ErrInvalid, e.Mode))
	}
	if e.Links == 0 || e.Size < 0 || e.MTimeNS < NoNanoseconds || e.MTimeNS > 999_999_999 || len(e.Symlink) > maxSymlink {
		return fail(fmt.Errorf("%w: %d links, %d bytes, %d ns, target of %d bytes", ErrInvalid, e.Links, e.Size, e.MTimeNS, len(e.Symlink)))
	}
	flags, err := EncodeFlags(e)
	if err != nil {
		return fail(err)
	}
	if err := cmp.Or(checkFields(e), checkChunks(e)); err != nil {
		return fail(err)
	}
	for i := range e.Chunks {
		if a := e.Chunks[i].Hash.Algorithm; a != e.Algorithm {
			return fail(fmt.Errorf("%w: chunk named by %s in a file of %s", ErrInvalid, a, e.Algorithm))
		}
	}
	xattr, err := EncodeXAttrs(e.XAttrs)
	if err != nil {
		return fail(err)
	}
	return encoded{flags, xattr}, nil
}

// bind sets the columns behind the key, beginning with parameter i, and
// returns the next parameter's number.
func (enc encoded) bind(s *sqlite.Stmt, i int, path string, e *Entry) int {
	parent := parentKey(path)
	next := func() int { i++; return i - 1 }
	s.BindInt64(next(), parent.A)
	s.BindInt64(next(), parent.B)
	s.BindInt64(next(), EncodeLinks(e.Links, e.Group))
	if e.Hash.IsZero() {
		s.BindNull(next())
	} else {
		s.BindBytes(next(), e.Hash.Digest[:])
	}
	s.BindInt64(next(), e.Size)
	s.BindInt64(next(), int64(e.Mode))
	s.BindInt64(next(), e.MTime)
	if e.MTimeNS == NoNanoseconds {
		s.BindNull(next())
	} else {
		s.BindInt64(next(), int64(e.MTimeNS))
	}
	s.BindInt64(next(), int64(enc.flags))
	s.BindText(next(), nameOf(path))
	s.BindText(next(), e.Symlink)
	s.BindInt64(next(), int64(e.UID))
	s.BindInt64(next(), int64(e.GID))
	if enc.xattr == nil {
		s.BindNull(next())
	} else {
		s.BindBytes(next(), enc.xattr)
	}
	return i
}

// Add inserts the row of path with its chunks. The catalog's root is added
// first. e.Name may be left empty. It returns [ErrExist] if the path is there
// already and [ErrInvalid] for an entry the format cannot hold.
func (w *Writer) Add(path string, e *Entry) error {
	enc, err := w.encode(path, e)
	if err != nil {
		return fmt.Errorf("add to catalog: %w", err)
	}
	key := KeyOf(path)
	err = w.db.Run(w.stmts.insert, func(s *sqlite.Stmt) {
		s.BindInt64(1, key.A)
		s.BindInt64(2, key.B)
		enc.bind(s, 3, path, e)
	}, nil)
	if err != nil {
		if sqlite.ErrCode(err).ToPrimary() == sqlite.ResultConstraint {
			err = ErrExist
		}
		return fmt.Errorf("add %q to catalog: %w", path, err)
	}
	w.rows++
	id := w.db.LastInsertRowID()
	w.maxID = max(w.maxID, id)
	if path == w.prefix {
		w.rootID = id
	}
	return w.added(path, key, e)
}

func (w *Writer) added(path string, key PathKey, e *Entry) error {
	for i := range e.Chunks {
		c := &e.Chunks[i]
		err := w.db.Run(w.stmts.addChunk, func(s *sqlite.Stmt) {
			s.BindInt64(1, key.A)
			s.BindInt64(2, key.B)
			s.BindInt64(3, c.Offset)
			s.BindInt64(4, c.Size)
			s.BindBytes(5, c.Hash.Digest[:])
		}, nil)
		if err != nil {
			return fmt.Errorf("add chunk %d of %q: %w", i, path, err)
		}
	}
	w.self = w.self.Add(Of(e))
	w.maxGroup = max(w.maxGroup, e.Group)
	return nil
}

// removed undoes what added did for the row old.
func (w *Writer) removed(path string, old *Row) error {
	if old.Flags&Chunked != 0 {
		if err := w.db.Run(w.stmts.dropChunks, bindKey(old.Key), nil); err != nil {
			return fmt.Errorf("remove chunks of %q: %w", path, err)
		}
	}
	w.self = w.self.Sub(countersOf(old))
	return nil
}

// countersOf is [Of] the row as stock software counts it: by its having a
// blob, whatever is in it.
func countersOf(row *Row) Counters {
	c := Of(&row.Entry)
	if row.BadXAttrs {
		c.XAttr = 1
	}
	return c
}

// Replace changes the row of path, which keeps its row id, to e. It returns
// [ErrNotExist] if there is none.
func (w *Writer) Replace(path string, e *Entry) error {
	enc, err := w.encode(path, e)
	if err != nil {
		return fmt.Errorf("replace in catalog: %w", err)
	}
	old, ok, err := w.lookup(path)
	if err == nil && !ok {
		err = ErrNotExist
	}
	if err != nil {
		return fmt.Errorf("replace %q in catalog: %w", path, err)
	}
	if err := w.removed(path, &old); err != nil {
		return err
	}
	err = w.db.Run(w.stmts.update, func(s *sqlite.Stmt) {
		s.BindInt64(enc.bind(s, 1, path, e), old.ID)
	}, nil)
	if err != nil {
		return fmt.Errorf("replace %q in catalog: %w", path, err)
	}
	return w.added(path, old.Key, e)
}

// Remove deletes the row of path, but not what lies below it. It returns
// [ErrNotExist] if there is none.
func (w *Writer) Remove(path string) error {
	old, ok, err := w.lookup(path)
	if err == nil && !ok {
		err = ErrNotExist
	}
	if err == nil {
		err = w.db.Run(w.stmts.remove, func(s *sqlite.Stmt) { s.BindInt64(1, old.ID) }, nil)
	}
	if err != nil {
		return fmt.Errorf("remove %q from catalog: %w", path, err)
	}
	w.rows--
	if old.ID == w.rootID {
		w.rootID = 0
	}
	return w.removed(path, &old)
}

// Lookup returns the entry of path with its chunks.
func (w *Writer) Lookup(path string) (Entry, bool, error) {
	row, ok, err := w.lookup(path)
	if err != nil {
		err = fmt.Errorf("look up %q: %w", path, err)
	}
	return row.Entry, ok, err
}

func (w *Writer) lookup(path string) (row Row, ok bool, err error) {
	rows, err := w.query(w.stmts.lookup, KeyOf(path))
	if err != nil || len(rows) == 0 {
		return Row{}, false, err
	}
	return rows[0], true, nil
}

// List returns the entries of the directory path, with their chunks, sorted by
// name.
func (w *Writer) List(path string) ([]Entry, error) {
	rows, err := w.query(w.stmts.list, KeyOf(path))
	if err != nil {
		return nil, fmt.Errorf("list %q: %w", path, err)
	}
	entries := make([]Entry, len(rows))
	for i := range rows {
		entries[i] = rows[i].Entry
	}
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	return entries, nil
}

func (w *Writer) query(stmt *sqlite.Stmt, key PathKey) ([]Row, error) {
	var found []Row
	err := w.db.Run(stmt, bindKey(key), func(r *sqlfile.Rows) error {
		var row Row
		blob, err := decodeRow(r, &row)
		takeXAttrs(&row, blob)
		found = append(found, row)
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range found {
		if found[i].Flags&Chunked == 0 {
			continue
		}
		var chunks []Chunk
		err := w.db.Run(w.stmts.chunks, bindKey(found[i].Key), func(r *sqlfile.Rows) error {
			c, err := decodeChunk(r, 0)
			chunks = append(chunks, c)
			return err
		})
		if err == nil {
			err = takeChunks(&found[i].Entry, chunks)
		}
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

func bindKey(key PathKey) func(*sqlite.Stmt) {
	return func(s *sqlite.Stmt) {
		s.BindInt64(1, key.A)
		s.BindInt64(2, key.B)
	}
}
