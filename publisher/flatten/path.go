package flatten

import (
	"fmt"
	"path"
	"strings"
)

const (
	maxPath   = 4096 // bytes, what PATH_MAX leaves room for and one more
	maxName   = 255  // bytes
	maxTarget = 4095 // bytes of a symbolic link's target
	maxFollow = 40   // symbolic links on the way to one name, as in Linux
)

// clean returns a name as a path relative to the root, which is "". Only the
// root itself may be written with a leading slash.
func clean(name string) (string, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return "", fmt.Errorf("%w: a name with a zero byte", ErrHostile)
	}
	if name == "" {
		return "", fmt.Errorf("%w: an empty name", ErrHostile)
	}
	var tidy bool
	for rest, more := name, true; more; {
		var c string
		c, rest, more = strings.Cut(rest, "/")
		switch {
		case c == "..":
			return "", fmt.Errorf("%w: a name that climbs with \"..\"", ErrHostile)
		case c == "" || c == ".":
			tidy = true
		case len(c) > maxName:
			return "", fmt.Errorf("%w: a name component of %d bytes, more than %d", ErrHostile, len(c), maxName)
		}
	}
	p := name
	if tidy {
		// A name without ".." is only shortened by Clean.
		p = strings.TrimPrefix(path.Clean(name), "./")
		if p == "." || p == "/" {
			return "", nil
		}
	}
	if p[0] == '/' {
		return "", fmt.Errorf("%w: an absolute name; layers name entries relative to the root", ErrHostile)
	}
	if len(p) >= maxPath {
		return "", fmt.Errorf("%w: a path of %d bytes, more than %d", ErrHostile, len(p), maxPath-1)
	}
	return p, nil
}

// split cuts a clean path into parent and last component.
func split(p string) (parent, base string) {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i], p[i+1:]
	}
	return "", p
}

func join(parent, base string) string {
	if parent == "" {
		return base
	}
	return parent + "/" + base
}

const (
	whPrefix = ".wh."
	whOpaque = ".wh..wh..opq"
	whMeta   = ".wh..wh." // aufs keeps its own things under such names
)
