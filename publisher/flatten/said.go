package flatten

import (
	"encoding/binary"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
)

// What is remembered of a layer: its version, the tar entries read, the notes,
// and the records, in the layer's order; integers are varints, strings and
// bytes are preceded by their length. Whoever keeps it proves that it comes
// back as it was given (package seen); decode takes nothing on trust that could
// hurt, but cannot tell a record that is well formed and wrong.
const saidVersion = 1

// How a regular file's content is remembered.
const (
	contentUnknown = iota // it was hidden, and too large to be kept
	contentNamed          // its id
	contentInline         // its bytes
)

func (s *scan) encode() []byte {
	w := writer{make([]byte, 0, 128*len(s.records))}
	w.number(saidVersion)
	w.number(uint64(s.read)) // #nosec G115 -- a count
	w.number(uint64(len(s.notes)))
	for _, n := range s.notes {
		w.text(n.Path)
		w.text(n.Text)
	}
	w.number(uint64(s.moreNotes)) // #nosec G115 -- a count
	w.number(uint64(len(s.records)))
	for i := range s.records {
		r := &s.records[i]
		w.number(uint64(r.kind))
		w.number(uint64(r.number)) // #nosec G115 -- not negative
		w.text(r.path)
		w.text(r.target)
		if r.kind == entry {
			w.inode(r.ino)
		}
	}
	return w.b
}

// decode fills s and reports whether b was understood.
func (s *scan) decode(b []byte) bool {
	r := reader{b: b}
	if r.number() != saidVersion {
		return false
	}
	s.read = int(r.count(0))
	for range r.count(2) {
		s.notes = append(s.notes, Note{Path: r.text(), Text: r.text()})
	}
	s.moreNotes = int(r.count(0))
	s.records = make([]record, r.count(4))
	for i := range s.records {
		rec := &s.records[i]
		rec.kind = recordKind(r.number()) // #nosec G115 -- judged below
		rec.number = int32(r.number())    // #nosec G115 -- judged below
		rec.path, rec.target = r.text(), r.text()
		if rec.kind > opaque || rec.number < 0 {
			r.bad = true
		}
		if rec.kind == entry {
			rec.ino = r.inode()
			rec.ino.number = rec.number
		}
		if r.bad {
			break
		}
	}
	if r.bad || len(r.b) > 0 {
		*s = scan{name: s.name, proved: s.proved, number: s.number}
		return false
	}
	for i := range s.notes {
		s.notes[i].Layer = s.name
	}
	return true
}

type writer struct{ b []byte }

func (w *writer) number(n uint64) { w.b = binary.AppendUvarint(w.b, n) }

func (w *writer) text(s string) {
	w.number(uint64(len(s)))
	w.b = append(w.b, s...)
}

func (w *writer) inode(i *inode) {
	for _, n := range []uint32{i.mode, i.uid, i.gid, i.major, i.minor, i.nsec} {
		w.number(uint64(n))
	}
	w.b = binary.AppendVarint(w.b, i.mtime)
	w.number(uint64(i.size)) // #nosec G115 -- not negative
	w.text(i.target)
	w.number(uint64(len(i.xattrs)))
	for _, x := range i.xattrs {
		w.text(x.Name)
		w.text(string(x.Value))
	}
	if !i.isRegular() {
		return
	}
	id := i.content
	if id.IsZero() {
		id = i.known
	}
	switch {
	case !id.IsZero():
		w.number(contentNamed)
		w.b = append(w.b, id[:]...)
	case i.inline != nil:
		w.number(contentInline)
		w.text(string(i.inline))
	default:
		w.number(contentUnknown)
	}
}

// reader takes b apart; once bad, it yields zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) fail() { r.bad, r.b = true, nil }

// count reads how many follow, each of at least least bytes, so that no more is
// allocated than the input could fill. Least 0 bounds a mere number.
func (r *reader) count(least uint64) uint64 {
	n := r.number()
	if least > 0 && n > uint64(len(r.b))/least || n > 1<<40 {
		r.fail()
		return 0
	}
	return n
}

func (r *reader) text() string {
	n := r.count(1)
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *reader) inode() *inode {
	i := &inode{}
	for _, p := range []*uint32{&i.mode, &i.uid, &i.gid, &i.major, &i.minor, &i.nsec} {
		n := r.number()
		if n > 1<<32-1 {
			r.fail()
		}
		*p = uint32(n) // #nosec G115 -- checked
	}
	mtime, size := binary.Varint(r.b)
	if size <= 0 {
		r.fail()
		return i
	}
	r.b = r.b[size:]
	i.mtime = mtime
	length := r.number()
	if length >= 1<<63 || i.nsec >= 1e9 {
		r.fail()
	}
	i.size = int64(length) // #nosec G115 -- checked
	i.target = r.text()
	for range r.count(2) {
		i.xattrs = append(i.xattrs, imagemeta.XAttr{Name: r.text(), Value: []byte(r.text())})
	}
	if !i.isRegular() {
		return i
	}
	switch r.number() {
	case contentUnknown:
	case contentNamed:
		if len(r.b) < len(i.known) {
			r.fail()
			return i
		}
		i.known = object.ContentID(r.b)
		r.b = r.b[len(i.known):]
	case contentInline:
		i.inline = []byte(r.text())
		if int64(len(i.inline)) != i.size {
			r.fail()
		}
	default:
		r.fail()
	}
	return i
}
