package client

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
)

// directoryVersion changes whenever the same directory is compiled into another
// listing: what keeps what is made of one keeps it under an id of that version.
const directoryVersion = 1

// maxVariables bounds the names of variables that a directory's links depend on,
// in bytes.
const maxVariables = 64 << 10

// Directory is a directory of a repository. What holds it is named by its hash,
// so all that lies below is fixed, nested catalogs included.
type Directory struct {
	Catalog object.Hash
	Size    int64  // bytes of the catalog's database, 0 if unknown
	Path    string // below the catalog's root: empty, or it begins with a slash
}

// Compiled is a directory that nobody published as a tree, say one that stock
// CernVM-FS wrote, as what a published tree has: a listing and an objects table,
// made of the catalogs. They name each content by the ID of [cache.Object] or
// [cache.Chunked], as the catalogs know no digest of it.
//
// It is for making one image; it may hold a listing, and is not kept.
type Compiled struct {
	Directory
	// ID is that of no published tree: it is made of the directory, of what
	// its links' variables are, of the owner that is shown and of the
	// compiler's version.
	ID imagemeta.TreeID

	repo *Repository
	mu   sync.Mutex
	made *directoryWalk // nil until it is needed
}

// Compile finds out the id of a directory as a tree. It reads the catalogs
// unless that was done before and is in the cache. It wraps
// [imagemeta.ErrUnsupported] for what cannot be shown as an image, and
// [imagemeta.ErrTooLarge] for what is too much.
func (r *Repository) Compile(ctx context.Context, d Directory) (*Compiled, error) {
	c := &Compiled{Directory: d, repo: r}
	key := cache.Variables(r.directoryID(d, nil))
	names, err := c.variables(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("compile %q of catalog %s: %w", d.Path+"/", d.Catalog, err)
	}
	c.ID = r.directoryID(d, names)
	return c, nil
}

// Compiled returns a directory whose id is known from an earlier Compile. Its
// links' variables may have other values by now; its objects are the same.
func (r *Repository) Compiled(d Directory, id imagemeta.TreeID) *Compiled {
	return &Compiled{Directory: d, ID: id, repo: r}
}

// variables returns the names that links depend on.
func (c *Compiled) variables(ctx context.Context, key cache.Key) ([][]byte, error) {
	f, err := c.repo.o.Cache.Store(ctx, key, -1, func(ctx context.Context, w cache.Writer) error {
		made, err := c.walk(ctx)
		if err == nil {
			_, err = w.Write(made.variables())
		}
		return err
	})
	if err != nil {
		if c.made == nil {
			return nil, err
		}
		return splitVariables(c.made.variables()), nil // the disk does not take it
	}
	defer f.Close() //nolint:errcheck // read only
	text, err := io.ReadAll(io.LimitReader(f, maxVariables+1))
	if err != nil {
		return nil, fmt.Errorf("cached file: %w", err)
	}
	return splitVariables(text), nil
}

// splitVariables reads a list of names, each behind a NUL. There is one in front
// of an empty list, too, as most are: they share a file that is not empty.
func splitVariables(text []byte) [][]byte {
	return slices.DeleteFunc(bytes.Split(text, []byte{0}), func(name []byte) bool { return len(name) == 0 })
}

// directoryID uses another hash than listings do, so that no listing has it.
func (r *Repository) directoryID(d Directory, variables [][]byte) (id imagemeta.TreeID) {
	h := sha512.New512_256()
	var b []byte
	field := func(s []byte) {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(s))) // #nosec G115 -- of a path, or of the environment
		b = append(b, s...)
	}
	b = append(b, "rootstock directory "...)
	b = binary.LittleEndian.AppendUint32(b, directoryVersion)
	b = append(append(b, byte(d.Catalog.Algorithm)), d.Catalog.Digest[:]...)
	field([]byte(d.Path))
	if o := r.o.Owner; o != nil {
		b = binary.LittleEndian.AppendUint32(append(b, 1), o.UID)
		b = binary.LittleEndian.AppendUint32(b, o.GID)
	} else {
		b = append(b, 0)
	}
	for _, name := range variables {
		field(name)
		if value, set := r.o.Getenv(string(name)); set {
			b = append(b, 1)
			field([]byte(value))
		} else {
			b = append(b, 0)
		}
	}
	h.Write(b) //nolint:errcheck // never fails
	h.Sum(id[:0])
	return id
}

// walk reads the catalogs, once.
func (c *Compiled) walk(ctx context.Context) (*directoryWalk, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made != nil {
		return c.made, nil
	}
	w, err := c.repo.walkDirectory(ctx, c.Directory, maxDirectoryEntries)
	for _, broken := range []error{ErrInconsistent, ErrRestricted, catalog.ErrInvalid, fetch.ErrCorrupt, fetch.ErrNotFound} {
		if errors.Is(err, broken) && !errors.Is(err, imagemeta.ErrUnsupported) {
			// The repository's mount shows what is not broken.
			err = fmt.Errorf("%w: %w", imagemeta.ErrUnsupported, err)
		}
	}
	if err != nil {
		return nil, err
	}
	c.made = w
	return w, nil
}

// Listing returns the entries of the directory, as [Repository.Listing] does
// those of a tree. They must not be changed.
func (c *Compiled) Listing(ctx context.Context) ([]imagemeta.Entry, error) {
	w, err := c.walk(ctx)
	if err != nil {
		return nil, fmt.Errorf("compile %q of catalog %s: %w", c.Path+"/", c.Catalog, err)
	}
	return w.entries, nil
}
