// Package stored reads back what a store holds: root files, the zlib objects
// of the format's own files, and catalogs. Everything is bounded, and verified
// against the hash that names it, before a caller sees it.
package stored

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
	"github.com/rootstock-cf/rootstock/store"
)

// Names of root files (CVMFS-FORMAT 1.1).
const (
	ManifestFile  = ".cvmfspublished"
	WhitelistFile = ".cvmfswhitelist"
	ReflogFile    = ".cvmfsreflog"
	StatusFile    = ".cvmfs_status.json"
)

// Bounds on what is read, in plain bytes.
const (
	MaxRootFile = 64 << 10 // manifest, whitelist, status
	MaxReflog   = 1 << 30
	MaxSmall    = 1 << 20 // certificate, metainfo
	MaxHistory  = 1 << 30
	// MaxCatalog is about ten times where stock CernVM-FS warns, 500,000
	// entries.
	MaxCatalog = 2 << 30
)

// Root returns the root file name, of at most limit bytes.
func Root(ctx context.Context, st store.Getter, name string, limit int64) ([]byte, error) {
	r, err := st.Get(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read %s: larger than %d bytes", name, limit)
	}
	return b, nil
}

// Object writes the plain bytes of a zlib object to dst, which may be used only
// if the error is nil.
func Object(ctx context.Context, st store.Getter, dst io.Writer, h object.Hash, t object.Type, limit int64) error {
	return decode(ctx, st, dst, t, codec.Expect{Hash: h, Size: -1, Limit: limit})
}

// Small returns the plain bytes of a zlib object.
func Small(ctx context.Context, st store.Getter, h object.Hash, t object.Type, limit int64) ([]byte, error) {
	var b bytes.Buffer
	if err := Object(ctx, st, &b, h, t, limit); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func decode(ctx context.Context, st store.Getter, dst io.Writer, t object.Type, want codec.Expect) error {
	name := object.Path(want.Hash, t)
	r, err := st.Get(ctx, name)
	if err != nil {
		return fmt.Errorf("read %s %s: %w", t, name, err)
	}
	defer r.Close()
	if _, err := codec.Decode(dst, r, want); err != nil {
		return fmt.Errorf("read %s %s: %w", t, name, err)
	}
	return nil
}

// Catalog is a catalog in a temporary file, which Close removes.
type Catalog struct {
	*catalog.Reader
	// Size is that of the database, in bytes.
	Size int64
	file string
}

// OpenCatalog fetches the catalog h into a temporary file below dir and opens
// it. size is the database's, in bytes; 0 where nobody states it.
func OpenCatalog(ctx context.Context, st store.Getter, dir string, h object.Hash, size int64) (*Catalog, error) {
	file, n, err := FetchCatalog(ctx, st, dir, h, size)
	if err != nil {
		return nil, err
	}
	r, err := catalog.OpenReader(file)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("catalog %s: %w", object.Path(h, object.Catalog), err), os.Remove(file))
	}
	return &Catalog{Reader: r, Size: n, file: file}, nil
}

// FetchCatalog is the first half of OpenCatalog: it returns the name of the
// verified database, which the caller removes, and its size in bytes.
func FetchCatalog(ctx context.Context, st store.Getter, dir string, h object.Hash, size int64) (string, int64, error) {
	f, err := os.CreateTemp(dir, "rootstock-catalog-")
	if err != nil {
		return "", 0, fmt.Errorf("catalog %s: %w", h, err)
	}
	want := codec.Expect{Hash: h, Size: size, Limit: MaxCatalog}
	if size <= 0 {
		want.Size = -1
	} else if size > MaxCatalog {
		err = fmt.Errorf("catalog %s: %d bytes, more than %d", h, size, int64(MaxCatalog))
	}
	if err == nil {
		err = decode(ctx, st, f, object.Catalog, want)
	}
	var n int64
	if err == nil {
		n, err = f.Seek(0, io.SeekEnd)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", 0, errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), n, nil
}

// Close closes the catalog and removes its file.
func (c *Catalog) Close() error { return errors.Join(c.Reader.Close(), os.Remove(c.file)) }
