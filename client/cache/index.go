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

	pins   map[Key]int // of names, whether they are there or not
	pinned int64       // bytes of contents that are there and pinned
	watch  func(ids []object.ContentID, size int64, before, after State)
	ids    []object.ContentID // what watch is told, to be used again
}

// State is what a cache knows of a content.
type State struct {
	Present bool
	Pinned  bool // by Pin, under one of its names
}

type entry struct {
	sum     object.ContentID
	size    int64
	file    file  // what the file was like when it was verified
	names   []Key // besides the content's own
	pins    int   // of all its names
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
	*x = index{entries: make([]entry, 1), byContent: map[object.ContentID]uint32{}, byName: map[Key]uint32{}, pins: map[Key]int{}}
}

func (e *entry) state() State { return State{Present: true, Pinned: e.pins > 0} }

// tell reports a change of a content's state.
func (x *index) tell(e *entry, before, after State) {
	if before == after {
		return
	}
	if before.Pinned {
		x.pinned -= e.size
	}
	if after.Pinned {
		x.pinned += e.size
	}
	if x.watch != nil {
		x.watch(x.idsOf(e), e.size, before, after)
	}
}

// idsOf returns by which ids e can be asked for, its own first. The slice is good
// until the next call.
func (x *index) idsOf(e *entry) []object.ContentID {
	x.ids = append(x.ids[:0], e.sum)
	for _, k := range e.names {
		if k.space == objects {
			x.ids = append(x.ids, k.sum)
		}
	}
	return x.ids
}

// pin adds to the pins of a name, or takes from them.
func (x *index) pin(k Key, by int) {
	by = max(by, -x.pins[k])
	if x.pins[k] += by; x.pins[k] == 0 {
		delete(x.pins, k)
	}
	if n, ok := x.number(k); ok {
		x.repin(n, by)
	}
}

func (x *index) repin(n uint32, by int) {
	e := &x.entries[n]
	before := e.state()
	e.pins += by
	x.tell(e, before, e.state())
}

func (x *index) len() int { return len(x.byContent) }

func (x *index) number(k Key) (uint32, bool) {
	if k.space == contents || k.space == either {
		n, ok := x.byContent[k.sum]
		if ok || k.space == contents {
			return n, ok
		}
		k.space = objects
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
	pins := x.pins[Content(e.sum)]
	for _, k := range e.names {
		x.byName[k] = n
		pins += x.pins[k]
	}
	x.entries[n].pins = pins
	x.bytes += e.size
	x.link(n)
	x.tell(&x.entries[n], State{}, x.entries[n].state())
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
	e := &x.entries[n]
	x.tell(e, e.state(), State{})
	e.names = append(e.names, k)
	x.tell(e, State{}, e.state())
	x.repin(n, x.pins[k])
}

func (x *index) unname(n uint32, k Key) {
	e := &x.entries[n]
	x.tell(e, e.state(), State{})
	for i := range e.names {
		if e.names[i] == k {
			e.names = append(e.names[:i:i], e.names[i+1:]...)
			break
		}
	}
	x.tell(e, State{}, e.state())
	delete(x.byName, k)
	x.repin(n, -x.pins[k])
}

// remove forgets a content with all its names.
func (x *index) remove(n uint32) entry {
	e := x.entries[n]
	x.tell(&e, e.state(), State{})
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
