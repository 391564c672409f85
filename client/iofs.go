package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/fusefs/view"
)

// FS shows what the repository is at this moment as an io/fs.FS: later
// revisions do not change it. Open, Stat and ReadDir follow symbolic links
// within the repository; an absolute one, and one that climbs out, leads
// nowhere. It implements fs.ReadDirFS, fs.StatFS and fs.ReadLinkFS; FileInfo.Sys
// is a *view.Attr.
func (r *Repository) FS() fs.FS { return &tree{r: r, root: r.Root()} }

type tree struct {
	r    *Repository
	root view.Node
}

var (
	_ fs.ReadDirFS  = (*tree)(nil)
	_ fs.StatFS     = (*tree)(nil)
	_ fs.ReadLinkFS = (*tree)(nil)
)

// maxLinks is how many symbolic links a path may lead through, as in Linux.
const maxLinks = 40

var errLinks = errors.New("too many levels of symbolic links")

// find walks a valid path. Links on the way are followed, the last one only if
// follow says so. dirs are the nodes from the root to where the walk is.
func (t *tree) find(op, name string, follow bool) (info, error) {
	if !fs.ValidPath(name) {
		return info{}, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	at, err := t.walk(name, follow)
	if err != nil {
		return info{}, &fs.PathError{Op: op, Path: name, Err: err}
	}
	at.name = path.Base(name)
	return at, nil
}

func (t *tree) walk(name string, follow bool) (info, error) {
	ctx := context.Background()
	a, err := t.r.Attr(ctx, t.root)
	if err != nil {
		return info{}, err
	}
	trail := []info{{node: t.root, attr: a}}
	links := 0
	for rest := name; rest != "" && rest != "."; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		switch part {
		case "", ".":
			continue
		case "..":
			if len(trail) == 1 {
				return info{}, fs.ErrNotExist
			}
			trail = trail[:len(trail)-1]
			continue
		}
		n, a, err := t.r.Lookup(ctx, trail[len(trail)-1].node, part)
		if err != nil {
			return info{}, err
		}
		if a.Mode&catalog.ModeType == catalog.ModeSymlink && (rest != "" || follow) {
			if links++; links > maxLinks {
				return info{}, errLinks
			}
			target, err := t.r.Readlink(ctx, n)
			if err != nil {
				return info{}, err
			}
			if len(target) > 0 && target[0] == '/' {
				return info{}, fmt.Errorf("link to %s: %w", target, fs.ErrNotExist)
			}
			rest = string(target) + "/" + rest
			continue
		}
		trail = append(trail, info{node: n, attr: a})
	}
	return trail[len(trail)-1], nil
}

// Open opens a file or directory.
func (t *tree) Open(name string) (fs.File, error) {
	at, err := t.find("open", name, true)
	if err != nil {
		return nil, err
	}
	f := &file{info: at, t: t, path: name}
	if at.Mode().IsRegular() {
		if f.content, err = t.r.Open(context.Background(), at.node); err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
	}
	return f, nil
}

// Stat describes what a path leads to.
func (t *tree) Stat(name string) (fs.FileInfo, error) {
	at, err := t.find("stat", name, true)
	if err != nil {
		return nil, err
	}
	return at, nil
}

// Lstat describes a path, be it a symbolic link.
func (t *tree) Lstat(name string) (fs.FileInfo, error) {
	at, err := t.find("lstat", name, false)
	if err != nil {
		return nil, err
	}
	return at, nil
}

// ReadLink returns a symbolic link's target.
func (t *tree) ReadLink(name string) (string, error) {
	at, err := t.find("readlink", name, false)
	if err != nil {
		return "", err
	}
	target, err := t.r.Readlink(context.Background(), at.node)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return string(target), nil
}

// ReadDir lists a directory in bytewise order.
func (t *tree) ReadDir(name string) ([]fs.DirEntry, error) {
	at, err := t.find("readdir", name, true)
	if err != nil {
		return nil, err
	}
	list, err := t.list(at.node, 0, -1)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	return list, nil
}

func (t *tree) list(dir view.Node, from, limit int) ([]fs.DirEntry, error) {
	var list []fs.DirEntry
	err := t.r.ReadDir(context.Background(), dir, from, func(name string, n view.Node, a view.Attr) bool {
		list = append(list, info{name: name, node: n, attr: a})
		return limit < 0 || len(list) < limit
	})
	return list, err
}

// info is a fs.FileInfo and a fs.DirEntry.
type info struct {
	name string
	node view.Node
	attr view.Attr
}

func (i info) Name() string               { return i.name }
func (i info) Size() int64                { return i.attr.Size }
func (i info) ModTime() time.Time         { return time.Unix(i.attr.MTime, int64(i.attr.MTimeNS)) }
func (i info) IsDir() bool                { return i.Mode().IsDir() }
func (i info) Sys() any                   { return &i.attr }
func (i info) Type() fs.FileMode          { return i.Mode().Type() }
func (i info) Info() (fs.FileInfo, error) { return i, nil }
func (i info) String() string             { return fs.FormatDirEntry(i) }

func (i info) Mode() fs.FileMode {
	m := fs.FileMode(i.attr.Mode & 0o777)
	switch i.attr.Mode & catalog.ModeType {
	case catalog.ModeDir:
		m |= fs.ModeDir
	case catalog.ModeSymlink:
		m |= fs.ModeSymlink
	case catalog.ModeFIFO:
		m |= fs.ModeNamedPipe
	case catalog.ModeSocket:
		m |= fs.ModeSocket
	case catalog.ModeBlock:
		m |= fs.ModeDevice
	case catalog.ModeChar:
		m |= fs.ModeDevice | fs.ModeCharDevice
	}
	for _, b := range specialBits {
		if i.attr.Mode&b.unix != 0 {
			m |= b.mode
		}
	}
	return m
}

var specialBits = [...]struct {
	unix uint32
	mode fs.FileMode
}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}}

// file is an open file or directory.
type file struct {
	info
	t       *tree
	path    string
	content view.Content // of a regular file
	offset  int64        // bytes, or entries
}

func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }

func (f *file) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.offset)
	f.offset += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// ReadAt makes a file an io.ReaderAt.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if f.content == nil {
		return 0, &fs.PathError{Op: "read", Path: f.path, Err: view.ErrInvalid}
	}
	n, err := f.content.ReadAt(context.Background(), p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &fs.PathError{Op: "read", Path: f.path, Err: err}
	}
	return n, err
}

// ReadDir makes a directory a fs.ReadDirFile.
func (f *file) ReadDir(n int) ([]fs.DirEntry, error) {
	limit := n
	if n <= 0 {
		limit = -1
	}
	list, err := f.t.list(f.node, int(f.offset), limit)
	f.offset += int64(len(list))
	switch {
	case err != nil:
		err = &fs.PathError{Op: "readdir", Path: f.path, Err: err}
	case n > 0 && len(list) == 0:
		err = io.EOF
	}
	return list, err
}

func (f *file) Close() error {
	if f.content == nil {
		return nil
	}
	return f.content.Close()
}
