// Package files says which contents of a tree belong to a package, by what the
// package's own database or place in the tree says. An inventory names
// packages; whether one was ever used is a question about its files.
//
// A tree's listing and the few database files that are read flow in, content ids
// out. Documentation is left out: reading a licence is no use of a package.
package files

import (
	"bufio"
	"bytes"
	"path"
	"slices"
	"strings"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/inventory"
	"github.com/rootstock-cf/rootstock/object"
)

// Tree is a tree whose files are looked up. It is for one goroutine.
type Tree struct {
	entries []imagemeta.Entry // sorted by path
	byPath  map[string]int
	read    func(e *imagemeta.Entry) ([]byte, error)
	texts   map[string][]byte // database files that were read
}

// New returns the tree of a listing. read returns the bytes of a regular file
// and bounds them.
func New(entries []imagemeta.Entry, read func(e *imagemeta.Entry) ([]byte, error)) *Tree {
	t := &Tree{entries: entries, byPath: make(map[string]int, len(entries)), read: read, texts: map[string][]byte{}}
	for i := range entries {
		t.byPath[entries[i].Path] = i
	}
	return t
}

// Of returns the contents of a package, each once, in order. None means that it
// is not known which files are the package's.
func (t *Tree) Of(p *inventory.Package) ([]object.ContentID, error) {
	names, err := t.names(p)
	if err != nil {
		return nil, err
	}
	var ids []object.ContentID
	for _, name := range names {
		if e := t.find(name); e != nil && !documentation(name) {
			ids = append(ids, e.Content)
		}
	}
	slices.SortFunc(ids, func(a, b object.ContentID) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(ids), nil
}

// names lists the paths of a package, some of which may not be there.
func (t *Tree) names(p *inventory.Package) ([]string, error) {
	if archive, _, ok := strings.Cut(p.Path, "!/"); ok {
		return []string{archive}, nil
	}
	dir := path.Dir(p.Path)
	switch p.Ecosystem {
	case inventory.Golang:
		return []string{p.Path}, nil
	case inventory.NPM:
		return t.below(dir, "node_modules"), nil
	case inventory.Gem:
		return t.below(path.Join(path.Dir(dir), "gems", strings.TrimSuffix(path.Base(p.Path), ".gemspec")), ""), nil
	case inventory.PyPI:
		text, err := t.text(path.Join(dir, "RECORD"))
		return lines(text, func(line string) string {
			name, _, _ := strings.Cut(line, ",")
			return path.Join(path.Dir(dir), name)
		}), err
	case inventory.Deb:
		return t.dpkg(p)
	case inventory.APK:
		text, err := t.text(p.Path)
		return apk(text, p.Name), err
	}
	return nil, nil
}

// dpkg reads the list that dpkg keeps of a package's files; beside status.d
// there are checksums only.
func (t *Tree) dpkg(p *inventory.Package) ([]string, error) {
	dir := path.Dir(p.Path)
	absolute := func(line string) string { return strings.TrimPrefix(line, "/") }
	for _, list := range []string{p.Name + ".list", p.Name + ":" + p.Arch + ".list"} {
		if text, err := t.text(path.Join(dir, "info", list)); err != nil || text != nil {
			return lines(text, absolute), err
		}
	}
	text, err := t.text(p.Path + ".md5sums")
	return lines(text, func(line string) string {
		_, name, _ := strings.Cut(line, "  ")
		return absolute(name)
	}), err
}

// apk finds a package's files in the database of all: F names a directory, R a
// file in it.
func apk(text []byte, name string) (names []string) {
	dir, ours := "", false
	for _, line := range lines(text, func(s string) string { return s }) {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "P":
			ours = value == name
		case "F":
			dir = value
		case "R":
			if ours {
				names = append(names, path.Join(dir, value))
			}
		}
	}
	return names
}

func lines(text []byte, name func(line string) string) (names []string) {
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		names = append(names, name(s.Text()))
	}
	return names
}

// text reads a database file; nil if there is none.
func (t *Tree) text(name string) ([]byte, error) {
	if b, ok := t.texts[name]; ok {
		return b, nil
	}
	e := t.find(name)
	if e == nil {
		return nil, nil
	}
	b, err := t.read(e)
	if err == nil {
		t.texts[name] = b
	}
	return b, err
}

// find returns a file that has bytes. dpkg's lists may name it by a link to the
// directory, as /lib is one to /usr/lib.
func (t *Tree) find(name string) *imagemeta.Entry {
	name = strings.Trim(path.Clean("/"+name), "/")
	for range 2 {
		if i, ok := t.byPath[name]; ok {
			if e := &t.entries[i]; e.IsRegular() && e.Size > 0 {
				return e
			}
			return nil
		}
		name = "usr/" + name
	}
	return nil
}

// below lists the files below a directory, without those below directories
// called except.
func (t *Tree) below(dir, except string) (names []string) {
	for i := range t.entries {
		name := t.entries[i].Path
		rest, ok := strings.CutPrefix(name, dir+"/")
		if !ok || except != "" && slices.Contains(strings.Split(rest, "/"), except) {
			continue
		}
		names = append(names, name)
	}
	return names
}

func documentation(name string) bool {
	for _, dir := range []string{"doc", "doc-base", "info", "lintian", "locale", "man"} {
		if strings.HasPrefix(strings.TrimPrefix(name, "/"), "usr/share/"+dir+"/") {
			return true
		}
	}
	return false
}
