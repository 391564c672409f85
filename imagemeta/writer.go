package imagemeta

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
)

// ErrClosed reports an entry written after Close.
var ErrClosed = errors.New("listing is closed")

// Writer encodes a tree's listing entry by entry. It holds one buffer and one
// entry per hard link group, whatever the tree's size.
type Writer struct {
	w      io.Writer
	sum    hash.Hash
	buf    []byte
	err    error
	prev   previous
	path   string // of the entry before
	dir    bool   // the entry before is a directory
	ends   []int  // of each component in path
	groups []group
	count  int
}

// group is a hard link group: its first member and how many have been seen.
type group struct {
	first   Entry
	members int
}

const writeSize = 32 << 10 // bytes collected before they are written

// NewWriter returns a Writer that writes to w. Nothing has to be closed but
// by [Writer.Close], which yields the tree's id.
func NewWriter(w io.Writer) *Writer {
	return &Writer{w: w, sum: sha256.New(), buf: append(make([]byte, 0, writeSize+8<<10), listingMagic...)}
}

// Write adds e, which must be the next in canonical order. It returns an
// error wrapping [ErrInvalid] if the listing cannot hold it, and that same
// error for everything that follows. It keeps e's path until the next call and
// the first member of each hard link group, xattrs included, until Close.
func (w *Writer) Write(e *Entry) error {
	if w.err == nil {
		if err := w.write(e); err != nil {
			w.err = fmt.Errorf("list %q: %w", e.Path, err)
		}
	}
	return w.err
}

// Close ends the listing and returns the tree's id. It does not close the
// underlying writer.
func (w *Writer) Close() (TreeID, error) {
	if w.err != nil {
		return TreeID{}, w.err
	}
	if w.count == 0 {
		return TreeID{}, fmt.Errorf("%w: listing without a root", ErrInvalid)
	}
	for i := range w.groups {
		if w.groups[i].members < 2 {
			return TreeID{}, fmt.Errorf("list %q: %w: hard link group of one", w.groups[i].first.Path, ErrInvalid)
		}
	}
	w.buf = append(w.buf, kindEnd)
	if err := w.flush(); err != nil {
		return TreeID{}, err
	}
	w.err = ErrClosed
	return TreeID(w.sum.Sum(nil)), nil
}

// Encode writes the listing of entries, which must be in canonical order, and
// returns the tree's id. See [Writer] for a tree that is not in memory.
func Encode(w io.Writer, entries []Entry) (TreeID, error) {
	lw := NewWriter(w)
	for i := range entries {
		if err := lw.Write(&entries[i]); err != nil {
			return TreeID{}, err
		}
	}
	return lw.Close()
}

func (w *Writer) write(e *Entry) error {
	if err := checkFields(e); err != nil {
		return err
	}
	kind := kinds[e.Mode>>12]
	up, name, err := w.place(e)
	if err != nil {
		return err
	}
	follower, err := w.member(e)
	if err != nil {
		return err
	}

	head := kind
	if e.Link != 0 {
		head |= linkMember
	}
	if !follower {
		head |= w.repeats(e, kind)
	}
	b := append(w.buf, head)
	if w.count > 0 {
		b = binary.AppendUvarint(b, uint64(up)) // #nosec G115 -- not negative
		b = binary.AppendUvarint(b, uint64(len(name)))
		b = append(b, name...)
	}
	switch {
	case follower:
		b = binary.AppendUvarint(b, uint64(e.Link))
	case e.Link != 0:
		b = binary.AppendUvarint(b, 0)
	}
	if !follower {
		b = w.fields(b, head, e)
		w.prev.remember(e, kind)
	}
	w.buf = b
	w.count++
	if len(w.buf) >= writeSize {
		return w.flush()
	}
	return nil
}

// place finds where e stands relative to the entry before: how many of its
// components to drop, and the name to add. It checks canonical order.
func (w *Writer) place(e *Entry) (up int, name string, err error) {
	if w.count == 0 {
		if e.Path != "" || !e.IsDir() {
			return 0, "", fmt.Errorf("%w: listing does not begin with the root directory", ErrInvalid)
		}
		w.dir = true
		return 0, "", nil
	}
	name = e.Name()
	if err := checkName(name); err != nil {
		return 0, "", err
	}
	if len(e.Path) > MaxPath {
		return 0, "", fmt.Errorf("%w: path of %d bytes", ErrInvalid, len(e.Path))
	}
	parent := e.Parent()
	if parent == "" && name != e.Path {
		return 0, "", fmt.Errorf("%w: absolute path", ErrInvalid)
	}
	depth := len(w.ends)
	for depth > 0 && w.ends[depth-1] > len(parent) {
		depth--
	}
	up = len(w.ends) - depth
	if end := w.end(depth); end != len(parent) || w.path[:end] != parent || up == 0 && !w.dir {
		return 0, "", fmt.Errorf("%w: its directory does not come before it", ErrInvalid)
	}
	if up > 0 && w.path[w.begin(depth):w.ends[depth]] >= name {
		return 0, "", fmt.Errorf("%w: comes after %q", ErrInvalid, w.path[:w.ends[depth]])
	}
	w.path, w.dir = e.Path, e.IsDir()
	w.ends = append(w.ends[:depth], len(e.Path))
	return up, name, nil
}

// end is where the first depth components of the path before end, begin where
// the next one begins.
func (w *Writer) end(depth int) int {
	if depth == 0 {
		return 0
	}
	return w.ends[depth-1]
}

func (w *Writer) begin(depth int) int {
	if depth == 0 {
		return 0
	}
	return w.ends[depth-1] + 1
}

// member checks e against its hard link group and reports whether the group's
// first member has said everything already.
func (w *Writer) member(e *Entry) (follower bool, err error) {
	switch n := uint64(len(w.groups)); {
	case e.Link == 0:
		return false, nil
	case uint64(e.Link) == n+1:
		w.groups = append(w.groups, group{*e, 1})
		return false, nil
	case uint64(e.Link) > n:
		return false, fmt.Errorf("%w: hard link group %d after group %d", ErrInvalid, e.Link, n)
	}
	g := &w.groups[e.Link-1]
	if !SameFile(&g.first, e) {
		return false, fmt.Errorf("%w: differs from its hard link %q", ErrInvalid, g.first.Path)
	}
	g.members++
	return true, nil
}

// repeats returns the flags for what e need not say.
func (w *Writer) repeats(e *Entry, kind byte) (flags byte) {
	if len(e.XAttrs) > 0 {
		flags |= hasXAttrs
	}
	if e.UID == w.prev.uid && e.GID == w.prev.gid {
		flags |= sameOwner
	}
	if e.MTime == w.prev.mtime && e.Nsec == w.prev.nsec {
		flags |= sameTime
	}
	if e.Mode&modePerm == w.prev.perm[kind] {
		flags |= samePerm
	}
	return flags
}

func (w *Writer) fields(b []byte, head byte, e *Entry) []byte {
	if head&samePerm == 0 {
		b = binary.AppendUvarint(b, uint64(e.Mode&modePerm))
	}
	if head&sameOwner == 0 {
		b = binary.AppendUvarint(b, uint64(e.UID))
		b = binary.AppendUvarint(b, uint64(e.GID))
	}
	if head&sameTime == 0 {
		b = binary.AppendUvarint(b, zigzag(step(w.prev.mtime, e.MTime)))
		b = binary.AppendUvarint(b, uint64(e.Nsec))
	}
	switch head & kindMask {
	case kindRegular:
		b = binary.AppendUvarint(b, uint64(e.Size)) // #nosec G115 -- checked
		if e.Size > 0 {
			b = append(b, e.Content[:]...)
		}
	case kindSymlink:
		b = binary.AppendUvarint(b, uint64(len(e.Target)))
		b = append(b, e.Target...)
	case kindChar, kindBlock:
		b = binary.AppendUvarint(b, uint64(e.Major))
		b = binary.AppendUvarint(b, uint64(e.Minor))
	}
	if head&hasXAttrs != 0 {
		b = binary.AppendUvarint(b, uint64(len(e.XAttrs)))
		for i := range e.XAttrs {
			b = binary.AppendUvarint(b, uint64(len(e.XAttrs[i].Name)))
			b = append(b, e.XAttrs[i].Name...)
			b = binary.AppendUvarint(b, uint64(len(e.XAttrs[i].Value)))
			b = append(b, e.XAttrs[i].Value...)
		}
	}
	return b
}

func (w *Writer) flush() error {
	w.sum.Write(w.buf) //nolint:errcheck // a hash.Hash never fails
	if _, err := w.w.Write(w.buf); err != nil {
		return fmt.Errorf("write listing: %w", err)
	}
	w.buf = w.buf[:0]
	return nil
}
