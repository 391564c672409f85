package publisher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/store"
)

// ErrNoNote reports a tree of which nothing was noted under a name.
var ErrNoNote = errors.New("nothing noted")

// Reader answers several questions about one revision of a repository, read
// from its store. It believes the store, as [List] does. It is for one
// goroutine.
type Reader struct {
	v    *view
	name string
}

// OpenReader opens the revision that is newest now. The caller closes the
// Reader; tempDir, "" for the system's, takes catalogs until then.
func OpenReader(ctx context.Context, st store.Getter, tempDir string) (*Reader, error) {
	name, err := RepositoryName(ctx, st)
	if err != nil {
		return nil, err
	}
	v, err := openView(ctx, st, tempDir)
	if err != nil {
		return nil, err
	}
	return &Reader{v, name}, nil
}

// Close removes what the Reader keeps in its temporary directory.
func (r *Reader) Close() error { return r.v.Close() }

// List is [List].
func (r *Reader) List(ctx context.Context) ([]Listed, error) { return r.v.all(ctx) }

// Channels is [Channels].
func (r *Reader) Channels(ctx context.Context) ([]Channel, error) { return r.v.channels(ctx) }

// Find returns the tree that ref names: a version, what a channel points to, or
// the newest version. Its error wraps [ErrNotFound] if there is none.
func (r *Reader) Find(ctx context.Context, ref reference.Reference) (Listed, error) {
	if ref.Repository != "" && ref.Repository != r.name {
		return Listed{}, fmt.Errorf("%s is %w here: the store holds %s", ref, ErrNotFound, r.name)
	}
	if ref.Path != "" {
		return Listed{}, fmt.Errorf("%s: name a tree as KIND/NAME[@VERSION|:CHANNEL], not by its path", ref)
	}
	return r.v.resolve(ctx, ref)
}

// Note returns the plain bytes of what is noted under name of the tree whose
// id, in hex, is given; at most limit of them. Its error wraps [ErrNoNote] if
// nothing is.
func (r *Reader) Note(ctx context.Context, tree, name string, limit int64) ([]byte, error) {
	if _, err := object.ParseContentID(tree); err != nil {
		return nil, fmt.Errorf("notes of tree %q: %w", tree, err)
	}
	b, err := r.v.file(ctx, ownDir(notesDir, tree)+"/"+name, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w of tree %s under %s", ErrNoNote, tree, name)
	}
	return b, err
}

// Names lists what a directory of a tree holds: dir is relative to it, "" for
// its root. A directory that is not there holds nothing.
func (r *Reader) Names(ctx context.Context, t Listed, dir string) ([]string, error) {
	at := path.Join(t.Path, dir)
	if e, ok, err := r.v.tx.Lookup(ctx, at); err != nil || !ok || !e.IsDir() {
		return nil, err
	}
	rows, err := r.v.tx.List(ctx, at)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", at, err)
	}
	var names []string
	for i := range rows {
		if rows[i].Flags&catalog.Hidden == 0 {
			names = append(names, rows[i].Name)
		}
	}
	return names, nil
}

// File returns the content of a tree's regular file of at most limit bytes.
// Links are not followed; its error wraps fs.ErrNotExist if there is no such
// file.
func (r *Reader) File(ctx context.Context, t Listed, name string, limit int64) ([]byte, error) {
	return r.v.file(ctx, path.Join(t.Path, name), limit)
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
		defer in.Close()
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

// maxText bounds a file that is read for what it says of packages, in bytes.
const maxText = 64 << 20

// Contents returns the listing of a tree, and what reads its regular files, of
// at most 64 MiB each, until the Reader is closed. The tree's id is given in hex.
func (r *Reader) Contents(ctx context.Context, tree string) ([]imagemeta.Entry, func(e *imagemeta.Entry) ([]byte, error), error) {
	listing, err := r.v.listing(ctx, tree)
	if err != nil {
		return nil, nil, err
	}
	entries, _, err := imagemeta.Decode(bytes.NewReader(listing), imagemeta.DefaultLimits)
	if err != nil {
		return nil, nil, fmt.Errorf("listing of tree %s: %w", tree, err)
	}
	objects, err := r.v.objects(ctx, tree)
	if err != nil {
		return nil, nil, err
	}
	return entries, func(e *imagemeta.Entry) ([]byte, error) {
		s, ok := objects.Lookup(e.Content)
		if !ok || s.Size > maxText {
			return nil, fmt.Errorf("content %s of tree %s is not stored, or has over %d bytes", e.Content, tree, maxText)
		}
		var b bytes.Buffer
		if err := fetchContent(ctx, r.v.st, s, &b); err != nil {
			return nil, err
		}
		return b.Bytes(), nil
	}, nil
}
