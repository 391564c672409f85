package flatten

import "strings"

// veil knows which names of lower layers the layers read so far hide. It takes
// names as written and resolves no links, so it may be wrong in either
// direction; [flattener.complete] makes good what was skipped too eagerly.
type veil struct {
	names map[string]shade
}

// shade says what is hidden at a name.
type shade uint8

const (
	shadeSelf  shade = 1 << iota // a file of that name
	shadeBelow                   // everything below it
)

func newVeil() *veil { return &veil{map[string]shade{}} }

// add hides what the entries of one layer replace or remove.
func (v *veil) add(records []record) {
	for i := range records {
		r := &records[i]
		switch {
		case r.kind == opaque:
			v.names[r.path] |= shadeBelow
		case r.kind == entry && r.ino.isDir():
			v.names[r.path] |= shadeSelf
		default:
			v.names[r.path] |= shadeSelf | shadeBelow
		}
	}
}

// hides reports whether a file of a lower layer is hidden. A nil veil hides
// nothing.
func (v *veil) hides(p string) bool {
	if v == nil {
		return false
	}
	if v.names[p]&shadeSelf != 0 {
		return true
	}
	for p != "" {
		i := strings.LastIndexByte(p, '/')
		p = p[:max(i, 0)]
		if v.names[p]&shadeBelow != 0 {
			return true
		}
	}
	return false
}
