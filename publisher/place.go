package publisher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/revision"
	"github.com/rootstock-cf/rootstock/reference"
)

// Names of the xattrs a tree's directory carries (docs/design/repository.md).
const (
	attrTree      = "user.rootstock.tree"
	attrKind      = "user.rootstock.kind"
	attrSource    = "user.rootstock.source"
	attrPublished = "user.rootstock.published"
	attrEntries   = "user.rootstock.entries"
	attrBytes     = "user.rootstock.bytes"
)

// flatDir holds the flattened images, where DUCC has them too.
const flatDir = "/.flat"

// treePath is where job's tree lies, and the nested catalogs to be made on the
// way.
func (j Job) treePath() (path string, nested []string) {
	if j.Reference.Kind == reference.Images {
		hex := strings.TrimPrefix(j.Source.ConfigDigest, "sha256:")
		xx := flatDir + "/" + hex[:2]
		return xx + "/" + hex, []string{xx}
	}
	dir := j.Reference.VersionsDir()
	return dir + "/" + j.Reference.Version, []string{dir}
}

// found returns what is published at path already, or nil.
func (p *Publisher) found(ctx context.Context, tx *revision.Tx, j Job, path string) (*Result, error) {
	e, ok, err := tx.Lookup(ctx, path)
	if err != nil || !ok {
		return nil, err
	}
	t := treeOf(&e)
	if t.tree == "" {
		return nil, fmt.Errorf("%s: %w: it is there, but no tree of ours", path, ErrExists)
	}
	return &Result{Reference: j.Reference, Path: path, Tree: t.tree, Source: t.source, Entries: t.entries, Bytes: t.bytes}, nil
}

// place mounts the tree and files what goes with it.
func (p *Publisher) place(ctx context.Context, tx *revision.Tx, h *head, j Job, path string, t *taken) (*Result, error) {
	_, nested := j.treePath()
	if err := putEmpty(ctx, p.o.Store, h.settings); err != nil {
		return nil, err
	}
	if err := tx.MkdirAll(ctx, catalog.Parent(path), nested...); err != nil {
		return nil, err
	}
	v := &view{st: p.o.Store, tx: tx}
	before, err := v.predecessor(ctx, j.Reference)
	if err != nil {
		return nil, err
	}
	about := about{
		tree: t.id.String(), kind: string(j.Reference.Kind), source: j.Source.Digest, published: p.o.Now().UTC(),
		entries: int64(len(t.entries)), bytes: t.bytes,
	}
	tree, err := tx.BuildTree(ctx, path, t.entries, t.in.Stored, about.xattrs())
	if err != nil {
		return nil, err
	}
	if err := tx.Mount(ctx, path, tree); err != nil {
		return nil, err
	}
	id := t.id.String()
	if err := p.file(ctx, tx, t, ownDir(treesDir, id), listingFile, objectsFile); err != nil {
		return nil, err
	}
	if err := fileNotes(ctx, tx, id, t.files); err != nil {
		return nil, err
	}
	if err := p.inherit(ctx, h, v, before, t); err != nil {
		return nil, err
	}
	if _, ok := t.files[imageFile]; ok {
		hex := strings.TrimPrefix(j.Source.ConfigDigest, "sha256:")
		if err := p.file(ctx, tx, t, ownDir(imagesDir, hex), imageFile); err != nil {
			return nil, err
		}
	}
	r := &Result{
		Reference: j.Reference, Path: path, Tree: id, Source: j.Source.Digest, Entries: about.entries, Bytes: t.bytes,
		Notes: append(slices.Clone(j.Source.Notes), t.notes()...),
	}
	if _, ok := t.files[imageFile]; ok {
		r.Notes = append(r.Notes, secretsIn(j.Source.Config)...)
	}
	if tree.Dropped > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d xattrs over 255 bytes are in the listing but not in the catalog, which cannot hold them", tree.Dropped))
	}
	return r, nil
}

// file puts files of our own into dir, unless another version with the same
// tree has put them there.
func (p *Publisher) file(ctx context.Context, tx *revision.Tx, t *taken, dir string, names ...string) error {
	if _, ok, err := tx.Lookup(ctx, dir); err != nil || ok {
		return err
	}
	if err := tx.MkdirAll(ctx, dir, catalog.Parent(dir)); err != nil {
		return err
	}
	for _, name := range names {
		if err := tx.AddFile(ctx, dir+"/"+name, t.files[name]); err != nil {
			return err
		}
	}
	return nil
}

// link makes the public name of an image point to its tree. Tags move: what the
// link says so far is replaced.
func (p *Publisher) link(ctx context.Context, tx *revision.Tx, ref reference.Reference, tree string) (changed bool, err error) {
	name, ok := ref.RepositoryPath()
	if !ok {
		return false, fmt.Errorf("%s: an image needs a tag or a digest", ref)
	}
	target := relative(name, tree)
	e, ok, err := tx.Lookup(ctx, name)
	if err != nil {
		return false, err
	}
	if ok {
		if !e.IsSymlink() {
			return false, fmt.Errorf("%s: %w: it is no image's link", name, ErrExists)
		}
		if e.Symlink == target {
			return false, nil
		}
		if err := tx.Remove(ctx, name); err != nil {
			return false, err
		}
	}
	registry := name[:1+strings.IndexByte(name[1:], '/')]
	if err := tx.MkdirAll(ctx, catalog.Parent(name), registry); err != nil {
		return false, err
	}
	return true, tx.Symlink(ctx, name, target)
}

// about is what a tree's directory says of it.
type about struct {
	tree, kind, source string
	published          time.Time
	entries, bytes     int64
}

func (a about) xattrs() []catalog.XAttr {
	all := []catalog.XAttr{
		{Name: attrTree, Value: []byte(a.tree)},
		{Name: attrKind, Value: []byte(a.kind)},
		{Name: attrSource, Value: []byte(a.source)},
		{Name: attrPublished, Value: []byte(a.published.Format(time.RFC3339))},
		{Name: attrEntries, Value: strconv.AppendInt(nil, a.entries, 10)},
		{Name: attrBytes, Value: strconv.AppendInt(nil, a.bytes, 10)},
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all
}

// treeOf reads the xattrs of a row; tree is empty if it is no tree of ours.
func treeOf(e *catalog.Entry) (a about) {
	for _, x := range e.XAttrs {
		v := string(x.Value)
		switch x.Name {
		case attrTree:
			if _, err := object.ParseContentID(v); err == nil {
				a.tree = v
			}
		case attrKind:
			a.kind = v
		case attrSource:
			a.source = v
		case attrPublished:
			a.published, _ = time.Parse(time.RFC3339, v) //nolint:errcheck // unknown is the zero time
		case attrEntries:
			a.entries, _ = strconv.ParseInt(v, 10, 64) //nolint:errcheck // unknown is 0
		case attrBytes:
			a.bytes, _ = strconv.ParseInt(v, 10, 64) //nolint:errcheck // unknown is 0
		}
	}
	return a
}

// mustMatch compares what is published with what was just read.
func mustMatch(was *Result, id imagemeta.TreeID) error {
	if was.Tree == id.String() {
		return nil
	}
	return fmt.Errorf("%w: %s is tree %s, this is tree %s; versions never change: publish it under another version",
		ErrExists, was.Reference, was.Tree, id)
}

var errNoVersion = errors.New("a version is needed")
