package publisher

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/publisher/revision"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/store"
)

// Listed is a published tree under one of its names.
type Listed struct {
	Reference reference.Reference
	Path      string // of the tree in the repository
	Tree      string // tree id, hex
	Source    string // digest of the source
	Entries   int64
	Bytes     int64 // plain bytes of regular files, hard links once
	Published time.Time
}

// List names every tree of the repository's newest revision, by kind, name and
// version. It believes the store: it checks hashes, not signatures.
func List(ctx context.Context, st store.Store, tempDir string) ([]Listed, error) {
	v, err := openView(ctx, st, tempDir)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	return v.all(ctx)
}

// all names every tree of the view.
func (v *view) all(ctx context.Context) ([]Listed, error) {
	l := lister{tx: v.tx}
	top, err := v.tx.List(ctx, "")
	if err != nil {
		return nil, err
	}
	for i := range top {
		if err := l.top(ctx, &top[i]); err != nil {
			return nil, fmt.Errorf("list what is published: %w", err)
		}
	}
	slices.SortFunc(l.all, func(a, b Listed) int { return strings.Compare(a.Reference.String(), b.Reference.String()) })
	return l.all, nil
}

type lister struct {
	tx  *revision.Tx
	all []Listed
}

// top looks into a directory of the root: one of the kinds, or a registry.
func (l *lister) top(ctx context.Context, e *catalog.Entry) error {
	name := "/" + e.Name
	switch {
	case !e.IsDir() || e.Name == "channels" || strings.HasPrefix(e.Name, "."):
		return nil
	case reference.Kind(e.Name).Valid() && reference.Kind(e.Name) != reference.Images:
		return l.versions(ctx, reference.Kind(e.Name), name)
	}
	return l.images(ctx, name)
}

func (l *lister) versions(ctx context.Context, kind reference.Kind, dir string) error {
	names, err := l.tx.List(ctx, dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if !n.IsDir() {
			continue
		}
		versions, err := l.tx.List(ctx, dir+"/"+n.Name)
		if err != nil {
			return err
		}
		for i := range versions {
			l.add(reference.Reference{Kind: kind, Name: n.Name, Version: versions[i].Name}, dir+"/"+n.Name+"/"+versions[i].Name, &versions[i])
		}
	}
	return nil
}

// images follows the links below a registry's directory into /.flat.
func (l *lister) images(ctx context.Context, dir string) error {
	list, err := l.tx.List(ctx, dir)
	if err != nil {
		return err
	}
	for i := range list {
		e := &list[i]
		here := dir + "/" + e.Name
		if e.IsDir() {
			if err := l.images(ctx, here); err != nil {
				return err
			}
			continue
		}
		target := path.Join(dir, e.Symlink)
		if !e.IsSymlink() || !strings.HasPrefix(target, flatDir+"/") {
			continue
		}
		name, version, ok := splitImage(strings.TrimPrefix(here, "/"))
		if !ok {
			continue
		}
		flat, ok, err := l.tx.Lookup(ctx, target)
		if err != nil {
			return err
		}
		if ok {
			l.add(reference.Reference{Kind: reference.Images, Name: name, Version: version}, target, &flat)
		}
	}
	return nil
}

// byAge sorts trees, youngest first.
func byAge(all []Listed) {
	slices.SortFunc(all, func(a, b Listed) int {
		return cmp.Or(b.Published.Compare(a.Published), cmp.Compare(b.Reference.Version, a.Reference.Version))
	})
}

// splitImage takes a public name apart at the colon of its last component.
func splitImage(name string) (image, version string, ok bool) {
	slash := strings.LastIndexByte(name, '/')
	colon := strings.IndexByte(name[slash+1:], ':')
	if slash < 0 || colon < 0 {
		return "", "", false
	}
	colon += slash + 1
	return name[:colon], name[colon+1:], true
}

func (l *lister) add(ref reference.Reference, at string, e *catalog.Entry) {
	if t, ok := listedAt(ref, at, e); ok {
		l.all = append(l.all, t)
	}
}

// listedAt reads what the row of a tree says of it. ok is false for what is
// not ours: a stock publisher may keep what it likes beside.
func listedAt(ref reference.Reference, at string, e *catalog.Entry) (_ Listed, ok bool) {
	t := treeOf(e)
	if t.tree == "" || ref.Validate() != nil {
		return Listed{}, false
	}
	return Listed{
		Reference: ref, Path: at, Tree: t.tree, Source: t.source, Entries: t.entries, Bytes: t.bytes, Published: t.published,
	}, true
}

// Find tells which tree a reference means in the newest revision: its version,
// what its channel points to, or the newest. An error wraps [ErrNotFound] if
// there is none. It believes the store, as [List] does.
func Find(ctx context.Context, st store.Store, tempDir string, ref reference.Reference) (Listed, error) {
	v, err := openView(ctx, st, tempDir)
	if err != nil {
		return Listed{}, err
	}
	defer v.Close()
	return v.resolve(ctx, ref)
}
