package cell

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/fusefs/tree"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/reference/rollout"
)

// What a tree's directory says of itself, and where an image's description
// lies (docs/design/repository.md).
const (
	attrTree      = "user.rootstock.tree"
	attrPublished = "user.rootstock.published"
	attrEntries   = "user.rootstock.entries"
	attrBytes     = "user.rootstock.bytes"
	attrSource    = "user.rootstock.source"

	flatDir   = "/.flat/"
	imagesDir = "/.rootstock/images/"
	imageFile = "/image.json"
)

// Bounds on what a repository may make us do.
const (
	maxLinks = 40       // symbolic links on one way, as the kernel has it
	maxImage = 16 << 20 // bytes of image.json
)

// resolver finds what references name in a view of a repository.
type resolver struct {
	v    tree.View
	self rollout.Cell // which rings of rollouts it is in
	log  *slog.Logger
}

// resolved is a tree a reference was found to name.
type resolved struct {
	node  view.Node
	path  string // in the repository, links resolved
	lower control.Lower
	ring  *ringed // of the channel; nil without a rollout
}

// resolve finds the tree that ref names at this moment.
func (r resolver) resolve(ctx context.Context, ref reference.Reference) (resolved, error) {
	p, ok := ref.RepositoryPath()
	if !ok {
		version, err := r.newest(ctx, ref)
		if err != nil {
			return resolved{}, err
		}
		ref = ref.WithVersion(version)
		p, _ = ref.RepositoryPath()
	}
	walk := r.walk
	if ref.Channel != "" {
		walk = func(ctx context.Context, p string) (resolved, error) { return r.follow(ctx, ref, p) }
	}
	found, err := walk(ctx, p)
	if errors.Is(err, fs.ErrNotExist) {
		return resolved{}, fmt.Errorf("%w: %s is not published (no %s)", control.ErrNotFound, ref, p)
	}
	if err != nil {
		return resolved{}, err
	}
	if ref.Path == "" {
		found.lower.Kind, found.lower.Name = ref.Kind, ref.Name
		if ref.Channel == "" {
			found.lower.Version = ref.Version
		}
	}
	return found, r.describe(ctx, &found)
}

// newest returns the version of ref's name that was published last.
func (r resolver) newest(ctx context.Context, ref reference.Reference) (string, error) {
	dir := ref.VersionsDir()
	parent, err := r.walk(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: no version of %s is published (no %s)", control.ErrNotFound, ref, dir)
	}
	if err != nil {
		return "", err
	}
	type candidate struct{ entry, version string }
	var all []candidate
	if err := r.v.ReadDir(ctx, parent.node, 0, func(name string, _ view.Node, _ view.Attr) bool {
		if v, ok := ref.VersionOf(name); ok {
			all = append(all, candidate{name, v})
		}
		return true
	}); err != nil {
		return "", fmt.Errorf("list %s: %w", dir, err)
	}
	best, when := "", ""
	for _, c := range all {
		t, err := r.walk(ctx, dir+"/"+c.entry)
		if err != nil {
			return "", err
		}
		published, err := r.v.XAttr(ctx, t.node, attrPublished)
		if err != nil {
			continue // no tree of ours
		}
		// RFC 3339 in UTC sorts as text; versions of one second by name.
		if s := string(published); best == "" || s > when || s == when && c.version > best {
			best, when = c.version, s
		}
	}
	if best == "" {
		return "", fmt.Errorf("%w: no version of %s is published", control.ErrNotFound, ref)
	}
	return best, nil
}

// walk goes to p. Links are followed inside the repository only: its root is
// where an absolute one begins and what none climbs above.
func (r resolver) walk(ctx context.Context, p string) (resolved, error) {
	at := resolved{node: r.v.Root()}
	todo := split(p)
	nodes, names := []view.Node{at.node}, []string{}
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		if name == ".." {
			if len(names) > 0 {
				nodes, names = nodes[:len(nodes)-1], names[:len(names)-1]
			}
			continue
		}
		n, attr, err := r.v.Lookup(ctx, nodes[len(nodes)-1], name)
		if err != nil {
			return at, fmt.Errorf("look up %s: %w", p, err)
		}
		if attr.Mode&modeType == modeSymlink {
			if links++; links > maxLinks {
				return at, fmt.Errorf("%w: %s: too many symbolic links", control.ErrInvalid, p)
			}
			target, err := r.v.Readlink(ctx, n)
			if err != nil {
				return at, fmt.Errorf("read link %s: %w", p, err)
			}
			if strings.HasPrefix(string(target), "/") {
				nodes, names = nodes[:1], nil
			}
			todo = append(split(string(target)), todo...)
			continue
		}
		if attr.Mode&modeType != modeDir && len(todo) > 0 {
			return at, fmt.Errorf("look up %s: %w", p, fs.ErrNotExist)
		}
		nodes, names = append(nodes, n), append(names, name)
	}
	at.node, at.path = nodes[len(nodes)-1], "/"+strings.Join(names, "/")
	return at, nil
}

// File type bits of view.Attr.Mode.
const (
	modeType    = 0o170000
	modeSymlink = 0o120000
	modeDir     = 0o040000
	modeRegular = 0o100000
)

func split(p string) []string {
	var parts []string
	for part := range strings.SplitSeq(p, "/") {
		if part != "" && part != "." {
			parts = append(parts, part)
		}
	}
	return parts
}

// describe fills in what the tree says of itself.
func (r resolver) describe(ctx context.Context, found *resolved) error {
	attr, err := r.v.Attr(ctx, found.node)
	if err != nil {
		return fmt.Errorf("%s: %w", found.path, err)
	}
	if attr.Mode&modeType != modeDir {
		return fmt.Errorf("%w: %s is not a directory", control.ErrInvalid, found.path)
	}
	for name, take := range map[string]func(string){
		attrTree:    func(s string) { found.lower.Tree = s },
		attrSource:  func(s string) { found.lower.Source = s },
		attrBytes:   func(s string) { found.lower.Bytes = number(s) },
		attrEntries: func(s string) { found.lower.Entries = number(s) },
	} {
		value, err := r.v.XAttr(ctx, found.node, name)
		if errors.Is(err, view.ErrNoXAttr) {
			continue // a raw path may name anything
		}
		if err != nil {
			return fmt.Errorf("%s: %w", found.path, err)
		}
		take(string(value))
	}
	if strings.HasPrefix(found.path, flatDir) {
		return r.environment(ctx, found)
	}
	return nil
}

// environment takes the image's from its configuration.
func (r resolver) environment(ctx context.Context, found *resolved) error {
	file := imagesDir + strings.TrimPrefix(found.path, flatDir) + imageFile
	raw, err := r.read(ctx, file, maxImage)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // flattened by somebody else's publisher
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	var image struct {
		Config struct {
			Config struct{ Env []string } `json:"config"`
		} `json:"config"`
	}
	if err := json.Unmarshal(raw, &image); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	found.lower.Env = image.Config.Config.Env
	return nil
}

func (r resolver) read(ctx context.Context, file string, most int64) ([]byte, error) {
	at, err := r.walk(ctx, file)
	if err != nil {
		return nil, err
	}
	c, err := r.v.Open(ctx, at.node)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if c.Size() > most {
		return nil, fmt.Errorf("%w: %d bytes", control.ErrInvalid, c.Size())
	}
	b := make([]byte, c.Size())
	if n, err := c.ReadAt(ctx, b, 0); n < len(b) && err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// number is a count of a tree's xattr; 0 where it says nothing sensible.
func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}
