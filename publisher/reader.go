package publisher

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
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

var (
	// ErrNotPublished reports a reference that names no tree.
	ErrNotPublished = errors.New("not published")
	// ErrNoNote reports a tree of which nothing was noted under a name.
	ErrNoNote = errors.New("nothing noted")
)

// Reader reads the newest revision of a repository from its store. It believes
// the store: it checks hashes, not signatures. It is for one goroutine.
type Reader struct {
	st   store.Store
	head *head
	tx   *revision.Tx
}

// OpenReader opens the revision that is newest now. The caller closes the
// Reader; tempDir, "" for the system's, takes catalogs until then.
func OpenReader(ctx context.Context, st store.Store, tempDir string) (*Reader, error) {
	h, err := readHead(ctx, st)
	if err != nil {
		return nil, err
	}
	tx, err := revision.Begin(ctx, revision.Root{Hash: h.manifest.RootCatalog, Size: h.manifest.CatalogSize},
		revision.Options{Store: st, Algorithm: h.settings.Algorithm, Compression: h.settings.Compression, TempDir: tempDir, Now: time.Now()})
	if err != nil {
		return nil, err
	}
	return &Reader{st, h, tx}, nil
}

// Close removes what the Reader keeps in its temporary directory.
func (r *Reader) Close() error { return r.tx.Close() }

// Repository is the repository's name.
func (r *Reader) Repository() string { return r.head.manifest.Name }

// List names every tree under each of its names, by kind, name and version.
func (r *Reader) List(ctx context.Context) ([]Listed, error) {
	l := lister{tx: r.tx}
	top, err := r.tx.List(ctx, "")
	if err != nil {
		return nil, err
	}
	for i := range top {
		if err := l.top(ctx, &top[i]); err != nil {
			return nil, fmt.Errorf("list %s: %w", r.Repository(), err)
		}
	}
	slices.SortFunc(l.all, func(a, b Listed) int { return strings.Compare(a.Reference.String(), b.Reference.String()) })
	return l.all, nil
}

// Find returns the tree that ref names: a version, a channel's, or the newest.
// Its error is [ErrNotPublished] if there is none.
func (r *Reader) Find(ctx context.Context, ref reference.Reference) (Listed, error) {
	if ref.Repository != "" && ref.Repository != r.Repository() {
		return Listed{}, fmt.Errorf("%s: %w here: the store holds %s", ref, ErrNotPublished, r.Repository())
	}
	all, err := r.List(ctx)
	if err != nil {
		return Listed{}, err
	}
	if ref.Channel != "" {
		link, _ := ref.RepositoryPath()
		e, ok, err := r.tx.Lookup(ctx, link)
		if err != nil {
			return Listed{}, err
		}
		if !ok || !e.IsSymlink() {
			return Listed{}, fmt.Errorf("%s: %w: no such channel", ref, ErrNotPublished)
		}
		ref = ref.WithVersion(versionOf(ref, e.Symlink))
	}
	var best *Listed
	for i := range all {
		l := &all[i]
		if l.Reference.Kind != ref.Kind || l.Reference.Name != ref.Name || ref.Version != "" && l.Reference.Version != ref.Version {
			continue
		}
		if best == nil || cmp.Or(l.Published.Compare(best.Published), strings.Compare(l.Reference.Version, best.Reference.Version)) > 0 {
			best = l
		}
	}
	if best == nil {
		return Listed{}, fmt.Errorf("%s: %w; rootstock ls names what is", ref, ErrNotPublished)
	}
	return *best, nil
}

// Channel is a channel and the version it points to.
type Channel struct {
	// Reference has the channel.
	Reference reference.Reference
	Version   string
}

// Channels names every channel of the repository.
func (r *Reader) Channels(ctx context.Context) ([]Channel, error) {
	const dir = "/channels"
	if _, ok, err := r.tx.Lookup(ctx, dir); err != nil || !ok {
		return nil, err
	}
	kinds, err := r.tx.List(ctx, dir)
	if err != nil {
		return nil, err
	}
	var all []Channel
	for _, k := range kinds {
		if k.IsDir() && reference.Kind(k.Name).Valid() {
			if all, err = r.channels(ctx, all, reference.Kind(k.Name), dir+"/"+k.Name, ""); err != nil {
				return nil, fmt.Errorf("list channels: %w", err)
			}
		}
	}
	return all, nil
}

// channels adds those below dir, which are those of name and of longer names.
func (r *Reader) channels(ctx context.Context, all []Channel, kind reference.Kind, dir, name string) ([]Channel, error) {
	list, err := r.tx.List(ctx, dir)
	if err != nil {
		return nil, err
	}
	for i := range list {
		e := &list[i]
		switch {
		case e.IsDir():
			if all, err = r.channels(ctx, all, kind, dir+"/"+e.Name, path.Join(name, e.Name)); err != nil {
				return nil, err
			}
		case e.IsSymlink():
			ref := reference.Reference{Kind: kind, Name: name, Channel: e.Name}
			if version := versionOf(ref, e.Symlink); ref.Validate() == nil && version != "" {
				all = append(all, Channel{ref, version})
			}
		}
	}
	return all, nil
}

// versionOf is the version of ref's name that a channel's link target leads to.
func versionOf(ref reference.Reference, target string) string {
	version, _ := ref.VersionOf(path.Base(target))
	return version
}

// Note returns the plain bytes of what is noted of a tree under name, at most
// limit of them. Its error is [ErrNoNote] if nothing is.
func (r *Reader) Note(ctx context.Context, tree, name string, limit int64) ([]byte, error) {
	at := notesDir(tree) + "/" + name
	b, ok, err := r.file(ctx, at, limit)
	if err == nil && !ok {
		err = fmt.Errorf("%s: %w", at, ErrNoNote)
	}
	return b, err
}

// file reads a file of the repository's own.
func (r *Reader) file(ctx context.Context, at string, limit int64) (b []byte, ok bool, err error) {
	e, ok, err := r.tx.Lookup(ctx, at)
	if err != nil || !ok {
		return nil, false, err
	}
	if e.Size > limit {
		return nil, true, fmt.Errorf("read %s: %d bytes, more than %d", at, e.Size, limit)
	}
	var plain bytes.Buffer
	if err := fetchContent(ctx, r.st, storedAs(&e), &plain); err != nil {
		return nil, true, fmt.Errorf("read %s: %w", at, err)
	}
	return plain.Bytes(), true, nil
}

// storedAs is where a catalog says the content of a regular file is stored.
func storedAs(e *catalog.Entry) imagemeta.Stored {
	s := imagemeta.Stored{Size: e.Size, Compression: e.Compression, Hash: e.Hash}
	for _, c := range e.Chunks {
		s.Chunks = append(s.Chunks, imagemeta.Chunk{Size: c.Size, Hash: c.Hash})
	}
	return s
}

// fetchContent writes a stored content's plain bytes to w. What w got is that
// content only if the error is nil.
func fetchContent(ctx context.Context, st store.Getter, s imagemeta.Stored, w io.Writer) error {
	one := func(h object.Hash, t object.Type, size int64) error {
		name := object.Path(h, t)
		in, err := st.Get(ctx, name)
		if err != nil {
			return fmt.Errorf("fetch %s: %w", name, err)
		}
		defer in.Close() //nolint:errcheck // only read
		if _, err := codec.Decode(w, in, codec.Expect{Hash: h, Compression: s.Compression, Size: size}); err != nil {
			return fmt.Errorf("fetch %s: %w", name, err)
		}
		return nil
	}
	if len(s.Chunks) == 0 {
		return one(s.Hash, object.Bulk, s.Size)
	}
	for _, c := range s.Chunks {
		if err := one(c.Hash, object.Partial, c.Size); err != nil {
			return err
		}
	}
	return nil
}
