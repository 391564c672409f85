package publisher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
	"github.com/rootstock-cf/rootstock/publisher/revision"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/store"
)

// ErrNotFound reports a name that the repository does not hold.
var ErrNotFound = errors.New("not published")

// Bounds on what is read back of a repository's own files, in bytes.
const (
	maxTreeFile = 1 << 30 // listing, objects
	maxRecord   = 1 << 20 // <channel>.json
)

// treesDir holds the listing and objects of each tree, notesDir what was
// learned of it later, imagesDir the images' configurations.
const (
	treesDir  = "/.rootstock/trees"
	notesDir  = "/.rootstock/notes"
	imagesDir = "/.rootstock/images"
)

// view looks at one revision: a transaction that may or may not be meant to
// become the next one.
type view struct {
	st store.Getter
	tx *revision.Tx
}

// openView looks at the newest revision. It believes the store: it checks
// hashes, not signatures. The caller closes it.
func openView(ctx context.Context, st store.Getter, tempDir string) (*view, error) {
	h, err := readHead(ctx, st)
	if err != nil {
		return nil, err
	}
	tx, err := revision.Begin(ctx, revision.Root{Hash: h.manifest.RootCatalog, Size: h.manifest.CatalogSize},
		revision.Options{Store: readOnly{st}, Algorithm: h.settings.Algorithm, Compression: h.settings.Compression, TempDir: tempDir, Now: time.Now()})
	if err != nil {
		return nil, err
	}
	return &view{st: st, tx: tx}, nil
}

// readOnly is a store for a transaction that is never committed.
type readOnly struct{ store.Getter }

// Put implements [revision.Store].
func (readOnly) Put(_ context.Context, name string, _ []byte) error {
	return fmt.Errorf("store %s: this is only looked at", name)
}

// Close ends the view.
func (v *view) Close() error { return v.tx.Close() }

// versions names the trees of ref's name, in no order.
func (v *view) versions(ctx context.Context, ref reference.Reference) ([]Listed, error) {
	dir := ref.VersionsDir()
	if e, ok, err := v.tx.Lookup(ctx, dir); err != nil || !ok || !e.IsDir() {
		return nil, err
	}
	rows, err := v.tx.List(ctx, dir)
	if err != nil {
		return nil, err
	}
	var all []Listed
	for i := range rows {
		version, ok := ref.VersionOf(rows[i].Name)
		if !ok {
			continue
		}
		t, ok, err := v.tree(ctx, ref.WithVersion(version), dir+"/"+rows[i].Name, &rows[i])
		if err != nil {
			return nil, err
		}
		if ok {
			all = append(all, t)
		}
	}
	return all, nil
}

// tree reads the tree at a version's row e, or behind it where that is an
// image's link.
func (v *view) tree(ctx context.Context, ref reference.Reference, at string, e *catalog.Entry) (_ Listed, ok bool, err error) {
	if e.IsSymlink() {
		at = path.Join(path.Dir(at), e.Symlink)
		behind, ok, err := v.tx.Lookup(ctx, at)
		if err != nil || !ok {
			return Listed{}, false, err
		}
		e = &behind
	}
	t, ok := listedAt(ref, at, e)
	return t, ok, nil
}

// resolve finds the tree ref names: its version, what its channel points to,
// or the newest. An error that wraps [ErrNotFound] lists what there is.
func (v *view) resolve(ctx context.Context, ref reference.Reference) (Listed, error) {
	if ref.Channel != "" {
		c, err := v.channel(ctx, ref)
		if err != nil {
			return Listed{}, err
		}
		return c.at, nil
	}
	all, err := v.versions(ctx, ref)
	if err != nil {
		return Listed{}, err
	}
	var newest *Listed
	for i := range all {
		t := &all[i]
		if t.Reference.Version == ref.Version {
			return *t, nil
		}
		if newest == nil || t.Published.After(newest.Published) ||
			t.Published.Equal(newest.Published) && t.Reference.Version > newest.Reference.Version {
			newest = t
		}
	}
	if ref.Version != "" || newest == nil {
		return Listed{}, fmt.Errorf("%s is %w; %s", ref, ErrNotFound, there(all))
	}
	return *newest, nil
}

// there names up to 20 versions, for the message of an error.
func there(all []Listed) string {
	if len(all) == 0 {
		return "there is no version of that name; rootstock ls shows what there is"
	}
	const most = 20
	byAge(all)
	var names []string
	for _, t := range all[:min(len(all), most)] {
		names = append(names, t.Reference.Version)
	}
	text := "there are " + strings.Join(names, ", ")
	if n := len(all) - most; n > 0 {
		text += fmt.Sprintf(" and %d older ones", n)
	}
	return text
}

// ownDir is where files of our own lie that are filed under a digest.
func ownDir(parent, hex string) string { return parent + "/" + hex[:2] + "/" + hex }

// file reads a file of the repository's own of at most limit bytes. An error
// wraps fs.ErrNotExist if there is none.
func (v *view) file(ctx context.Context, name string, limit int64) ([]byte, error) {
	e, ok, err := v.tx.Lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	if !ok || !e.IsRegular() {
		return nil, fmt.Errorf("read %s: %w", name, fs.ErrNotExist)
	}
	if e.Size > limit {
		return nil, fmt.Errorf("read %s: %d bytes are more than the %d it may have", name, e.Size, limit)
	}
	b, err := readContent(ctx, v.st, &e)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// readContent reads the plain content of a file, whose size is bounded by the
// caller.
func readContent(ctx context.Context, st store.Getter, e *catalog.Entry) ([]byte, error) {
	var plain bytes.Buffer
	read := func(h object.Hash, t object.Type, size int64) error {
		r, err := st.Get(ctx, object.Path(h, t))
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = codec.Decode(&plain, r, codec.Expect{Hash: h, Compression: e.Compression, Size: size})
		return err
	}
	if e.Flags&catalog.Chunked == 0 {
		err := read(e.Hash, object.Bulk, e.Size)
		return plain.Bytes(), err
	}
	for _, c := range e.Chunks {
		if err := read(c.Hash, object.Partial, c.Size); err != nil {
			return nil, err
		}
	}
	return plain.Bytes(), nil
}

// listing reads the encoded listing of a tree and proves that it is the
// tree's.
func (v *view) listing(ctx context.Context, tree string) ([]byte, error) {
	id, err := object.ParseContentID(tree)
	if err != nil {
		return nil, err
	}
	b, err := v.file(ctx, ownDir(treesDir, tree)+"/"+listingFile, maxTreeFile)
	if err != nil {
		return nil, err
	}
	if err := imagemeta.Verify(bytes.NewReader(b), id, imagemeta.DefaultLimits); err != nil {
		return nil, fmt.Errorf("listing of tree %s: %w", tree, err)
	}
	return b, nil
}

// objects reads the table of a tree's contents.
func (v *view) objects(ctx context.Context, tree string) (*imagemeta.Objects, error) {
	b, err := v.file(ctx, ownDir(treesDir, tree)+"/"+objectsFile, maxTreeFile)
	if err != nil {
		return nil, err
	}
	o, err := imagemeta.OpenObjects(b)
	if err != nil {
		return nil, fmt.Errorf("objects of tree %s: %w", tree, err)
	}
	return o, nil
}
