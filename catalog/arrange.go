package catalog

import (
	"bytes"
	"crypto/md5" // #nosec G501 -- a format constant
	"fmt"
	"slices"
)

// arrange puts the rows of the scan into the order of the index and sets the
// fields that say where other rows are.
func (c *compiler) arrange() error {
	dirs, err := c.directories()
	if err != nil {
		return err
	}
	kids, err := c.group(dirs)
	if err != nil {
		return err
	}
	if err := c.breadthFirst(kids); err != nil {
		return err
	}
	if err := c.attach(dirs); err != nil {
		return err
	}
	c.linkGroups()
	return nil
}

// directories maps the keys of directories to their rows, and finds the root.
func (c *compiler) directories() (map[PathKey]uint32, error) {
	dirs := make(map[PathKey]uint32, len(c.recs)/8)
	nestedRoots := 0
	for i := range c.recs {
		if !c.isDir(uint32(i)) { // #nosec G115 -- add bounds the rows
			continue
		}
		if _, ok := dirs[c.keys[i]]; ok {
			return nil, fmt.Errorf("%w: two directories have the key of %q", ErrInvalid, c.name(uint32(i))) // #nosec G115
		}
		dirs[c.keys[i]] = uint32(i)             // #nosec G115
		if c.flags(uint32(i))&NestedRoot != 0 { // #nosec G115
			nestedRoots++
			c.root = uint32(i) // #nosec G115
		}
	}
	if root, ok := dirs[KeyOf(c.prefix)]; ok {
		c.root, c.checkKeys = root, true
		return dirs, nil
	}
	if nestedRoots != 1 {
		return nil, fmt.Errorf("%w: no entry for %q, the catalog's root", ErrInvalid, c.prefix)
	}
	return dirs, nil
}

// family is the children of all directories: those of row i of the scan are
// rows[from[i]:from[i+1]], sorted by name.
type family struct {
	from []uint32
	rows []uint32
}

func (f *family) of(row uint32) []uint32 { return f.rows[f.from[row]:f.from[row+1]] }

// group sorts the rows into their directories.
func (c *compiler) group(dirs map[PathKey]uint32) (*family, error) {
	n := len(c.recs)
	f := &family{from: make([]uint32, n+2), rows: make([]uint32, n-1)}
	parent := make([]uint32, n)
	lastKey, last, ok := PathKey{}, uint32(0), false
	for i := range c.recs {
		row := uint32(i) // #nosec G115 -- add bounds the rows
		if row == c.root {
			continue
		}
		if key := c.parents[i]; !ok || key != lastKey {
			lastKey = key
			if last, ok = dirs[key]; !ok {
				return nil, fmt.Errorf("%w: the directory of %q is not in the catalog", ErrInvalid, c.name(row))
			}
		}
		parent[i] = last
		f.from[last+2]++
	}
	for i := 2; i < len(f.from); i++ {
		f.from[i] += f.from[i-1]
	}
	// from[d+1] is where d's next child goes, and in the end where they end.
	for i := range c.recs {
		if row := uint32(i); row != c.root { // #nosec G115
			f.rows[f.from[parent[i]+1]] = row
			f.from[parent[i]+1]++
		}
	}
	for i := range c.recs {
		kids := f.of(uint32(i)) // #nosec G115
		if len(kids) < 2 {
			continue
		}
		slices.SortFunc(kids, func(a, b uint32) int { return bytes.Compare(c.name(a), c.name(b)) })
		for k := range kids[1:] {
			if bytes.Equal(c.name(kids[k]), c.name(kids[k+1])) {
				return nil, fmt.Errorf("%w: name %q comes twice in %q", ErrInvalid, c.name(kids[k]), c.name(uint32(i))) // #nosec G115
			}
		}
	}
	return f, nil
}

// breadthFirst numbers the rows and links parents and children.
func (c *compiler) breadthFirst(f *family) error {
	c.order = make([]uint32, 1, len(c.recs))
	c.order[0] = c.root
	c.rowOf = make([]uint32, len(c.recs))
	var path []byte
	for at := 0; at < len(c.order); at++ {
		row := c.order[at]
		kids := f.of(row)
		if len(kids) == 0 {
			continue
		}
		if at > 0 && c.flags(row)&attached != 0 {
			return fmt.Errorf("%w: mountpoint %q has children", ErrInvalid, c.name(row))
		}
		rec := &c.recs[row]
		le.PutUint32(rec[recFirst:], uint32(len(c.order)))                            // #nosec G115 -- bounded by the rows
		le.PutUint32(rec[recCount:], uint32(len(kids)))                               // #nosec G115
		if path = c.appendPath(path[:0], uint32(at)); len(path)+1+maxName > maxPath { // #nosec G115
			return fmt.Errorf("%w: a path of more than %d bytes", ErrInvalid, len(path))
		}
		dir := len(path)
		for _, kid := range kids {
			path = append(append(path[:dir], '/'), c.name(kid)...)
			if c.checkKeys && keyOf(path) != c.keys[kid] {
				return fmt.Errorf("%w: %q has the key of another path", ErrInvalid, path)
			}
			c.rowOf[kid] = uint32(len(c.order))               // #nosec G115
			le.PutUint32(c.recs[kid][recParent:], uint32(at)) // #nosec G115
			c.order = append(c.order, kid)
		}
	}
	if len(c.order) != len(c.recs) {
		return fmt.Errorf("%w: %d of %d rows cannot be reached from the root", ErrInvalid, len(c.recs)-len(c.order), len(c.recs))
	}
	return nil
}

// appendPath appends the path of a written row, but no more than maxPath
// bytes of it; the parents of rows written are known.
func (c *compiler) appendPath(b []byte, at uint32) []byte {
	var depth int
	for p := at; p != 0; p = le.Uint32(c.recs[c.order[p]][recParent:]) {
		depth += 1 + int(c.recs[c.order[p]][recNameLen])
	}
	b = append(b, c.prefix...)
	end := len(b) + depth
	b = slices.Grow(b, depth)[:end]
	for p := at; p != 0; p = le.Uint32(c.recs[c.order[p]][recParent:]) {
		name := c.name(c.order[p])
		end -= len(name)
		copy(b[end:], name)
		end--
		b[end] = '/'
	}
	return b
}

// attach ties mountpoints and the rows of nested_catalogs and
// bind_mountpoints together.
func (c *compiler) attach(dirs map[PathKey]uint32) error {
	c.mounts = make([]uint32, len(c.attached))
	for i, n := range c.attached {
		flag := NestedMountpoint
		if i >= int(c.header.nested) {
			flag = BindMountpoint
		}
		row, ok := dirs[KeyOf(n.Path)]
		if !ok || row == c.root || c.flags(row)&flag == 0 {
			return fmt.Errorf("%w: there is no mountpoint for the catalog of %q", ErrInvalid, n.Path)
		}
		aux := c.recs[row][recAux:]
		if le.Uint32(aux) != 0 {
			return fmt.Errorf("%w: two catalogs at %q", ErrInvalid, n.Path)
		}
		le.PutUint32(aux, uint32(i+1)) // #nosec G115 -- bounded by the file's size
		c.mounts[i] = c.rowOf[row]
	}
	for i := range c.recs {
		row := uint32(i) // #nosec G115 -- add bounds the rows
		if row != c.root && c.isDir(row) && c.flags(row)&attached != 0 && le.Uint32(c.recs[i][recAux:]) == 0 {
			return fmt.Errorf("%w: mountpoint %q has no catalog", ErrInvalid, c.name(row))
		}
	}
	return nil
}

// linkGroups finds the first row of each hard link group.
func (c *compiler) linkGroups() {
	firsts := map[uint32]uint32{}
	for at, row := range c.order {
		rec := &c.recs[row]
		link := uint32(at) // #nosec G115 -- bounded by the rows
		if group := le.Uint32(rec[recGroup:]); group != 0 {
			first, ok := firsts[group]
			if !ok {
				firsts[group] = link
			} else if c.sameFile(c.order[first], row) {
				link = first
			}
		}
		le.PutUint32(rec[recLink:], link)
	}
}

// sameFile reports whether two rows differ in nothing but their names. A
// directory's inode must not show another file's content because somebody
// wrote the same group twice.
func (c *compiler) sameFile(a, b uint32) bool {
	x, y := &c.recs[a], &c.recs[b]
	return bytes.Equal(x[:recLink], y[:recLink]) && // numbers of stat(2)
		bytes.Equal(x[recParent:recFirst], y[recParent:recFirst]) &&
		bytes.Equal(x[recDigest:recNameLen], y[recDigest:recNameLen]) &&
		bytes.Equal(x[recAlg:], y[recAlg:]) &&
		bytes.Equal(c.aux(a), c.aux(b)) && bytes.Equal(c.xattr(a), c.xattr(b))
}

// aux returns a row's chunks or link target.
func (c *compiler) aux(row uint32) []byte {
	rec := &c.recs[row]
	from, n := int(le.Uint32(rec[recAux:])), int(le.Uint32(rec[recAuxLen:]))
	if c.flags(row)&Chunked != 0 {
		return c.chunkTab[from*chunkSize : (from+n)*chunkSize]
	}
	return c.blob[from : from+n]
}

func (c *compiler) xattr(row uint32) []byte {
	rec := &c.recs[row]
	from, n := le.Uint32(rec[recXAttr:]), le.Uint32(rec[recXAttrN:])
	return c.blob[from : from+n]
}

func (c *compiler) name(row uint32) []byte {
	rec := &c.recs[row]
	off := le.Uint32(rec[recName:])
	return c.blob[off : off+uint32(rec[recNameLen])]
}

func (c *compiler) isDir(row uint32) bool {
	return le.Uint32(c.recs[row][recMode:])&ModeType == ModeDir
}

func (c *compiler) flags(row uint32) Flags { return Flags(le.Uint32(c.recs[row][recFlags:])) }

// keyOf is [KeyOf] of bytes.
func keyOf(path []byte) PathKey {
	d := md5.Sum(path) // #nosec G401
	return PathKey{
		A: int64(le.Uint64(d[:8])), // #nosec G115 -- wraps on purpose
		B: int64(le.Uint64(d[8:])), // #nosec G115
	}
}
