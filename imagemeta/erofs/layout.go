package erofs

import (
	"fmt"
	"math"

	"github.com/rootstock-cf/rootstock/imagemeta"
)

// layout says where everything goes, before a byte is written.
type layout struct {
	entries []imagemeta.Entry
	next    []int32 // of an entry, the first one that is not below it
	inode   []int32 // of an entry
	inodes  []inode
	blocks  int64 // of the whole image
	meta    int64 // blocks of them that hold the superblock and inodes
}

// inode is what the first entry of an inode does not say itself.
type inode struct {
	entry  int32
	parent int32 // inode, of a directory
	pos    int64 // bytes into the image
	links  uint32
	addr   uint32 // of the first full block
	blocks uint32 // full blocks, all that is not in the tail
	tail   uint16 // bytes behind inode and xattrs
	layout uint16
	xattrs uint32 // bytes
}

// plan checks the listing and lays it out.
func plan(entries []imagemeta.Entry) (*layout, error) {
	if len(entries) == 0 || entries[0].Path != "" || !entries[0].IsDir() {
		return nil, fmt.Errorf("%w: listing does not begin with the root directory", imagemeta.ErrInvalid)
	}
	if len(entries) > math.MaxInt32 {
		return nil, fmt.Errorf("%w: %d entries", imagemeta.ErrUnsupported, len(entries))
	}
	l := &layout{
		entries: entries, next: make([]int32, len(entries)), inode: make([]int32, len(entries)),
		inodes: make([]inode, 0, len(entries)),
	}
	if err := l.link(); err != nil {
		return nil, err
	}
	return l, l.place()
}

// frame is a directory whose entries are being read.
type frame struct {
	entry int32
	last  string // name in it
}

// link finds out which entries are one inode, where each directory ends, and
// how many links there are.
func (l *layout) link() error {
	var groups []int32 // inode of each hard link group
	stack := []frame{{}}
	for i := range l.entries {
		e := &l.entries[i]
		if err := imagemeta.CheckLimits(e); err != nil {
			return err
		}
		at := int32(i) // #nosec G115 -- checked in plan
		parent := int32(0)
		if i > 0 {
			var err error
			if stack, err = l.descend(stack, e, at); err != nil {
				return err
			}
			top := &stack[len(stack)-1]
			top.last = e.Name()
			parent = l.inode[top.entry]
		}
		n := int32(len(l.inodes)) // #nosec G115
		switch link := int(e.Link); {
		case link == len(groups)+1:
			groups = append(groups, n)
		case link > len(groups):
			return fmt.Errorf("%q: %w: hard link group %d after group %d", e.Path, imagemeta.ErrInvalid, link, len(groups))
		case link > 0:
			n = groups[link-1]
			if first := &l.entries[l.inodes[n].entry]; !imagemeta.SameFile(first, e) {
				return fmt.Errorf("%q: %w: differs from its hard link %q", e.Path, imagemeta.ErrInvalid, first.Path)
			}
			l.inode[i] = n
			l.inodes[n].links++
			l.next[i] = at + 1
			continue
		}
		l.inode[i] = n
		l.inodes = append(l.inodes, inode{entry: at, parent: parent, links: 1})
		l.next[i] = at + 1
		if e.IsDir() {
			l.inodes[n].links = 2
			if i > 0 {
				l.inodes[parent].links++
				stack = append(stack, frame{entry: at})
			}
		}
	}
	for _, n := range groups {
		if l.inodes[n].links < 2 {
			return fmt.Errorf("%q: %w: hard link group of one", l.entries[l.inodes[n].entry].Path, imagemeta.ErrInvalid)
		}
	}
	for _, f := range stack {
		l.next[f.entry] = int32(len(l.entries)) // #nosec G115
	}
	return nil
}

// descend leaves the directories that e is not in and checks its place in the
// one it is.
func (l *layout) descend(stack []frame, e *imagemeta.Entry, at int32) ([]frame, error) {
	parent := e.Parent()
	for len(l.entries[stack[len(stack)-1].entry].Path) > len(parent) {
		l.next[stack[len(stack)-1].entry] = at
		stack = stack[:len(stack)-1]
	}
	top := &stack[len(stack)-1]
	if l.entries[top.entry].Path != parent || e.Name() <= top.last {
		return nil, fmt.Errorf("%q: %w: not in canonical order", e.Path, imagemeta.ErrInvalid)
	}
	return stack, nil
}

// place gives each inode its position and its blocks.
func (l *layout) place() error {
	pos := int64(superOffset + superSize)
	for i := range l.inodes {
		n := &l.inodes[i]
		n.xattrs = uint32(xattrSize(&l.entries[n.entry])) // #nosec G115 -- limited
		whole := l.shape(n)
		// What must not cross a block boundary, and small inodes, for one
		// read each.
		if pos>>blockBits != (pos+whole-1)>>blockBits {
			pos = (pos + blockSize - 1) &^ (blockSize - 1)
		}
		n.pos = pos
		pos = (pos + n.size() + slotSize - 1) &^ (slotSize - 1)
	}
	l.meta = (pos + blockSize - 1) >> blockBits
	l.blocks = l.meta
	for i := range l.inodes {
		if n := &l.inodes[i]; n.blocks > 0 {
			n.addr = uint32(l.blocks) // #nosec G115 -- checked below
			l.blocks += int64(n.blocks)
		}
	}
	if l.blocks > math.MaxUint32 {
		return fmt.Errorf("%w: image of %d blocks", imagemeta.ErrUnsupported, l.blocks)
	}
	return nil
}

// shape decides how an inode keeps its data and returns how many of its first
// bytes have to be in one block.
func (l *layout) shape(n *inode) (whole int64) {
	e := &l.entries[n.entry]
	head := inodeSize + int64(n.xattrs)
	whole = inodeSize
	inline := func(size int64) bool {
		if head+size > blockSize {
			return false
		}
		n.tail, n.layout, whole = uint16(size), layoutInline, head+size // #nosec G115 -- less than a block
		return true
	}
	switch {
	case e.IsDir():
		blocks, last := l.measure(n)
		n.blocks = blocks
		if inline(int64(last)) {
			n.blocks--
		}
	case e.IsSymlink():
		if !inline(int64(len(e.Target))) {
			n.blocks = 1
		}
	case e.Size > 0:
		n.tail, n.layout = chunkIndex, layoutChunks
	}
	if head+int64(n.tail) <= blockSize {
		whole = head + int64(n.tail)
	}
	return whole
}

// size is what the inode takes in the inodes' blocks.
func (n *inode) size() int64 { return inodeSize + int64(n.xattrs) + int64(n.tail) }

// number is how directories, and stat(2), call the inode.
func (n *inode) number() uint64 { return uint64(n.pos) >> slotBits } // #nosec G115 -- not negative

// xattrSize returns what e's xattrs take in its inode, overlayfs' own
// included.
func xattrSize(e *imagemeta.Entry) int {
	size := 0
	for i := range e.XAttrs {
		_, rest, _ := imagemeta.XAttrPrefix(e.XAttrs[i].Name)
		size += (xattrEntry + len(rest) + len(e.XAttrs[i].Value) + 3) &^ 3
	}
	if e.Size > 0 {
		size += redirectXAttrs
	}
	if size > 0 {
		size += xattrHeader
	}
	return size
}
