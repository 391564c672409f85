package imagemeta

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"unsafe"
)

// ErrMismatch reports a listing that is not the one asked for.
var ErrMismatch = errors.New("listing does not match the tree id")

// Reader decodes a listing entry by entry. It is strict: what it reads to the
// end without an error, [Writer] encodes to the same bytes. Its memory is one
// buffer, the paths of the entries handed out, and one entry per hard link
// group.
//
// An entry is proven to belong to a tree only after io.EOF and a comparison
// of ID; act on none of them before.
type Reader struct {
	in     input
	limit  Limits
	err    error
	prev   previous
	path   []byte // of the entry before
	dir    bool   // the entry before is a directory
	ends   []int  // of each component in path
	groups []group
	alone  int // groups that have one member so far
	count  int
	text   arena
}

// NewReader returns a Reader of the listing in r. The caller closes r.
func NewReader(r io.Reader, limit Limits) *Reader {
	return &Reader{in: newInput(r, limit.Bytes), limit: limit, text: arena{limit: limit.Bytes}}
}

// Next returns the next entry; after the last one, and after the end of the
// input was checked, io.EOF. It returns an error wrapping [ErrInvalid] for
// what is not a listing, [ErrTooLarge] for one beyond the limits, or what
// the underlying reader said, and that same error from then on. Members of a
// hard link group share their xattrs' memory.
func (r *Reader) Next() (Entry, error) {
	var e Entry
	if err := r.read(&e); err != nil {
		return Entry{}, err
	}
	return e, nil
}

// read is Next into an entry that is zero.
func (r *Reader) read(e *Entry) error {
	if r.err != nil {
		return r.err
	}
	if err := r.next(e); errors.Is(err, errEnd) {
		r.err = io.EOF
	} else if err != nil {
		r.err = fmt.Errorf("listing, entry %d: %w", r.count, err)
	}
	r.count++
	return r.err
}

// ID returns the tree's id. It is valid after Next has returned io.EOF.
func (r *Reader) ID() TreeID { return TreeID(r.in.sum.Sum(nil)) }

// Decode reads a whole listing. The caller compares the tree's id before it
// believes the entries. Room for them is made at once if r has a method Len
// that says how many bytes are left, as [bytes.Reader] has; they are large
// enough for copying them to be most of the work otherwise.
func Decode(r io.Reader, limit Limits) ([]Entry, TreeID, error) {
	lr := NewReader(r, limit)
	entries := make([]Entry, 0, expected(r, limit))
	for {
		if len(entries) == cap(entries) {
			entries = slices.Grow(entries, 1)
		}
		entries = entries[:len(entries)+1]
		err := lr.read(&entries[len(entries)-1])
		if errors.Is(err, io.EOF) {
			return entries[:len(entries)-1], lr.ID(), nil
		}
		if err != nil {
			return nil, TreeID{}, err
		}
	}
}

// expected guesses how many entries r has. One of a real tree takes some 48
// bytes of its listing, most of them its content's. What is said from outside
// makes room for no more than a large tree's.
func expected(r io.Reader, limit Limits) int {
	const least, most, record = 64, 1 << 18, 40
	l, ok := r.(interface{ Len() int })
	if !ok {
		return least
	}
	return max(least, min(l.Len()/record+1, limit.Entries, most))
}

// Verify reports whether r holds the one listing of the tree want: it returns
// nil, an error wrapping [ErrMismatch], or what [Reader.Next] returns.
func Verify(r io.Reader, want TreeID, limit Limits) error {
	lr := NewReader(r, limit)
	for e := (Entry{}); ; e = (Entry{}) {
		if err := lr.read(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
	}
	if got := lr.ID(); got != want {
		return fmt.Errorf("%w: it is %s, not %s", ErrMismatch, got, want)
	}
	return nil
}

// errEnd is how next says that the listing ended as it should.
var errEnd = errors.New("end of listing")

func (r *Reader) next(e *Entry) error {
	if r.count == 0 {
		magic, err := r.in.take(len(listingMagic))
		if err != nil {
			return err
		}
		if string(magic) != listingMagic {
			return fmt.Errorf("%w: not a listing of a version this program reads", ErrInvalid)
		}
	}
	head, err := r.in.byte()
	if err != nil {
		return err
	}
	kind := head & kindMask
	if kind == kindEnd {
		return r.finish(head)
	}
	if r.count >= r.limit.Entries {
		return fmt.Errorf("%w: more than %d entries", ErrTooLarge, r.limit.Entries)
	}
	e.Mode = modes[kind]
	if err := r.place(e, kind); err != nil {
		return err
	}
	if head&linkMember != 0 {
		follower, err := r.member(e, head)
		if follower || err != nil {
			return err
		}
	}
	if err := r.fields(e, head); err != nil {
		return err
	}
	if err := checkFields(e); err != nil {
		return err
	}
	r.prev.remember(e, kind)
	if e.Link != 0 {
		r.groups = append(r.groups, group{*e, 1})
		r.alone++
	}
	return nil
}

func (r *Reader) finish(head byte) error {
	switch {
	case head != kindEnd:
		return fmt.Errorf("%w: flags %#x without a type", ErrInvalid, head)
	case r.count == 0:
		return fmt.Errorf("%w: no root", ErrInvalid)
	case r.alone > 0:
		return fmt.Errorf("%w: hard link group of one", ErrInvalid)
	}
	if err := r.in.expectEOF(); err != nil {
		return err
	}
	return errEnd
}

// place reads which components of the path before to drop and what to add.
func (r *Reader) place(e *Entry, kind byte) error {
	if r.count == 0 {
		if kind != kindDir {
			return fmt.Errorf("%w: the root is no directory", ErrInvalid)
		}
		r.dir = true
		return nil
	}
	up, err := r.in.uvarint(uint64(len(r.ends)))
	if err != nil {
		return err
	}
	if up == 0 && !r.dir {
		return fmt.Errorf("%w: entry below what is no directory", ErrInvalid)
	}
	size, err := r.in.uvarint(MaxName)
	if err != nil {
		return err
	}
	name, err := r.in.take(int(size)) // #nosec G115 -- at most MaxName
	if err != nil {
		return err
	}
	if err := checkName(unsafe.String(unsafe.SliceData(name), len(name))); err != nil { // looks only
		return err
	}
	depth := len(r.ends) - int(up) // #nosec G115 -- at most len(r.ends)
	end, begin := 0, 0
	if depth > 0 {
		end = r.ends[depth-1]
		begin = end + 1
	}
	if up > 0 && bytes.Compare(r.path[begin:r.ends[depth]], name) >= 0 {
		return fmt.Errorf("%w: %q out of order", ErrInvalid, name)
	}
	r.path = r.path[:end]
	if depth > 0 {
		r.path = append(r.path, '/')
	}
	r.path = append(r.path, name...)
	if len(r.path) > MaxPath {
		return fmt.Errorf("%w: path of %d bytes", ErrInvalid, len(r.path))
	}
	r.ends = append(r.ends[:depth], len(r.path))
	r.dir = kind == kindDir
	e.Path, err = r.text.keep(r.path)
	return err
}

// member reads the hard link group, and for a follower all the rest from its
// first member.
func (r *Reader) member(e *Entry, head byte) (follower bool, err error) {
	link, err := r.in.uvarint(uint64(len(r.groups)))
	if err != nil {
		return false, err
	}
	if link == 0 {
		e.Link = uint32(len(r.groups) + 1) // #nosec G115 -- bounded by the number of entries
		return false, nil
	}
	g := &r.groups[link-1]
	if head&^kindMask != linkMember || modes[head&kindMask] != g.first.Mode&modeType {
		return false, fmt.Errorf("%w: differs from its hard link %q", ErrInvalid, g.first.Path)
	}
	path := e.Path
	*e = g.first
	e.Path = path
	if g.members++; g.members == 2 {
		r.alone--
	}
	return true, nil
}

// arena holds the texts of many entries in few allocations.
type arena struct {
	free  []byte
	size  int
	used  int64
	limit int64
}

const (
	arenaMin = 1 << 10
	arenaMax = 64 << 10
)

// keep returns b's bytes as a string of its own. Texts have a limit of their
// own because a short record can stand for a long path.
func (a *arena) keep(b []byte) (string, error) {
	if len(b) == 0 {
		return "", nil
	}
	a.used += int64(len(b))
	if a.used > a.limit {
		return "", fmt.Errorf("%w: paths of more than %d bytes", ErrTooLarge, a.limit)
	}
	if len(a.free) < len(b) {
		a.size = min(max(2*a.size, arenaMin, len(b)), arenaMax)
		a.free = make([]byte, max(a.size, len(b)))
	}
	n := copy(a.free, b)
	s := unsafe.String(&a.free[0], n) // never written to again
	a.free = a.free[n:]
	return s, nil
}
