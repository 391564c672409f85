package cache

import (
	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/object"
)

// index is what the directory holds, in order of use. Entries live in one
// slice and refer to each other by number, since there may be a million.
type index struct {
	entries   []entry // number 0 is the ring's head
	free      []uint32
	byContent map[object.ContentID]uint32
	byName    map[Key]uint32 // objects and catalogs
	bytes     int64
}

type entry struct {
	sum     object.ContentID
	size    int64
	file    file  // what the file was like when it was verified
	names   []Key // besides the content's own
	newer   uint32
	older   uint32
	checked bool // its bytes were verified by this process
}

// file is what stat says of a file that nobody has changed. Whoever writes to
// it and sets its modification time back cannot set back the change time.
type file struct {
	ino          uint64
	mtime, ctime int64 // UNIX nanoseconds
}

func fileOf(st *unix.Stat_t) file {
	return file{ino: st.Ino, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano()}
}

func (x *index) init() {
	*x = index{entries: make([]entry, 1), byContent: map[object.ContentID]uint32{}, byName: map[Key]uint32{}}
}

func (x *index) len() int { return len(x.byContent) }

func (x *index) number(k Key) (uint32, bool) {
	if k.space == contents {
		n, ok := x.byContent[k.sum]
		return n, ok
	}
	n, ok := x.byName[k]
	return n, ok
}

// find returns a copy of the entry k names.
func (x *index) find(k Key) (entry, bool) {
	n, ok := x.number(k)
	if !ok {
		return entry{}, false
	}
	return x.entries[n], true
}

// add makes e the most recently used. Its content must not be known yet.
func (x *index) add(e entry) {
	var n uint32
	if last := len(x.free) - 1; last >= 0 {
		n, x.free = x.free[last], x.free[:last]
	} else {
		n = uint32(len(x.entries)) // #nosec G115 -- a slice that long does not fit memory
		x.entries = append(x.entries, entry{})
	}
	x.entries[n] = e
	x.byContent[e.sum] = n
	for _, k := range e.names {
		x.byName[k] = n
	}
	x.bytes += e.size
	x.link(n)
}

// name gives a known content one more name.
func (x *index) name(sum object.ContentID, k Key) {
	n, ok := x.byContent[sum]
	if !ok || k.space == contents {
		return
	}
	if old, ok := x.byName[k]; ok {
		if old == n {
			return
		}
		x.unname(old, k)
	}
	x.byName[k] = n
	x.entries[n].names = append(x.entries[n].names, k)
}

func (x *index) unname(n uint32, k Key) {
	names := x.entries[n].names
	for i := range names {
		if names[i] == k {
			x.entries[n].names = append(names[:i:i], names[i+1:]...)
			break
		}
	}
	delete(x.byName, k)
}

// remove forgets a content with all its names.
func (x *index) remove(n uint32) entry {
	e := x.entries[n]
	x.unlink(n)
	delete(x.byContent, e.sum)
	for _, k := range e.names {
		delete(x.byName, k)
	}
	x.bytes -= e.size
	x.entries[n] = entry{}
	x.free = append(x.free, n)
	return e
}

func (x *index) touch(n uint32) {
	if x.entries[0].older != n {
		x.unlink(n)
		x.link(n)
	}
}

func (x *index) link(n uint32) {
	head := &x.entries[0]
	second := head.older
	x.entries[n].newer, x.entries[n].older = 0, second
	x.entries[second].newer = n
	head.older = n
}

func (x *index) unlink(n uint32) {
	e := &x.entries[n]
	x.entries[e.newer].older = e.older
	x.entries[e.older].newer = e.newer
}

// oldest is the least recently used entry; newer of it leads towards the most
// recently used; 0 ends the walk.
func (x *index) oldest() uint32 { return x.entries[0].newer }
