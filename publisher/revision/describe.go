package revision

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/object"
)

// Description is what a root catalog says of itself (CVMFS-FORMAT 2.2).
type Description struct {
	Number       uint64
	Size         int64       // bytes, uncompressed
	Previous     object.Hash // null for the first
	LastModified int64       // UNIX seconds
}

// Describe reads a root catalog's properties. Of o, Store and TempDir count. An
// error wraps store.ErrNotExist if the catalog is not there.
func Describe(ctx context.Context, root Root, o Options) (Description, error) {
	dir, err := os.MkdirTemp(o.TempDir, "rootstock-revision-")
	if err != nil {
		return Description{}, fmt.Errorf("describe revision: %w", err)
	}
	t := &Tx{store: o.Store, algorithm: root.Hash.Algorithm, dir: dir}
	defer t.abandon()
	c, err := t.load(ctx, "", root.Hash, root.Size, nil)
	if err != nil {
		return Description{}, fmt.Errorf("describe revision: %w", err)
	}
	d := Description{Number: c.number}
	if st, err := os.Stat(c.file); err == nil {
		d.Size = st.Size()
	}
	for key, take := range map[string]func(string) error{
		"previous_revision": func(s string) (err error) {
			d.Previous, err = object.ParseHash(s)
			return err
		},
		"last_modified": func(s string) (err error) {
			d.LastModified, err = strconv.ParseInt(s, 10, 64)
			return err
		},
	} {
		text, ok, err := c.w.Property(key)
		if err == nil && ok && text != "" {
			err = take(text)
		}
		if err != nil {
			return Description{}, fmt.Errorf("describe revision: catalog %s: %s: %w: %w", root.Hash, key, catalog.ErrInvalid, err)
		}
	}
	return d, nil
}

// CatalogOf returns the mountpoint of the catalog that has the row of path as
// clients see it: of a mountpoint, the nested one.
func (t *Tx) CatalogOf(ctx context.Context, path string) (string, error) {
	o, err := t.at(ctx, path, false)
	if err != nil {
		return "", err
	}
	return o.mount, nil
}
