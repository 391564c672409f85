package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/imagemeta/erofs"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// treeName names a tree's mountpoint. The writer's version belongs to it, so
// that a mount says what it is.
func treeName(id imagemeta.TreeID) string { return fmt.Sprintf("%s.%d", id, erofs.Version) }

func parseTreeName(name string) (imagemeta.TreeID, bool) {
	hex, _, _ := strings.Cut(name, ".")
	id, err := object.ParseContentID(hex)
	return id, err == nil && treeName(id) == name
}

func imageKey(id imagemeta.TreeID) cache.Key { return cache.Image(id, erofs.Version) }

// mount mounts x's image, writing it first if the cache does not hold it; table
// waits until the tree's contents can be found. x's work is held.
func (t *Tier) mount(ctx context.Context, r *client.Repository, x *tree, listing lister, table func() error) error {
	key := imageKey(x.id)
	t.o.Cache.Pin(key)
	err := t.mountPinned(ctx, r, x, listing, table)
	if err != nil {
		t.o.Cache.Unpin(key)
		return fmt.Errorf("image of tree %s: %w", x.id, err)
	}
	x.mounted = true
	t.o.Log.Info("tree mounted", "tree", x.id.String(), "mountpoint", t.mountpoint(x.id))
	return nil
}

func (t *Tier) mountPinned(ctx context.Context, r *client.Repository, x *tree, listing lister, table func() error) error {
	f, err := t.o.Cache.StorePath(ctx, imageKey(x.id), func(ctx context.Context, path string) error {
		return t.write(ctx, r, x.id, path, listing, table)
	})
	if err != nil {
		return err
	}
	// The kernel is given the name, which mount tables show, and opens it
	// anew; the image is pinned, and one that vanishes is an error.
	defer f.Close() //nolint:errcheck // read only
	target := t.mountpoint(x.id)
	if err := os.Mkdir(target, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	_, err = erofs.Mount(f.Name(), target)
	return err
}

// lister gets the listing of a tree.
type lister func(ctx context.Context) ([]imagemeta.Entry, error)

// write makes the image of a tree at path, out of a listing that is the tree's
// and contents that its table has.
func (t *Tier) write(ctx context.Context, r *client.Repository, id imagemeta.TreeID, path string, listing lister, table func() error) error {
	entries, err := listing(ctx)
	if err != nil {
		return err
	}
	covered := make(chan error, 1)
	go func() {
		err := table()
		if err == nil {
			err = t.contents.Covers(r, id, entries)
		}
		covered <- err
	}()
	err = writeImage(path, entries)
	return errors.Join(<-covered, err)
}

func writeImage(path string, entries []imagemeta.Entry) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) // #nosec G304 -- our own directory
	if err != nil {
		return fmt.Errorf("%w: %w", cache.ErrCannotStore, err)
	}
	_, err = erofs.Write(f, entries)
	return errors.Join(err, f.Close())
}

// adopt learns whether x is mounted: an earlier process may have done it, and
// somebody may have undone it. x's work is held.
func (x *tree) adopt(t *Tier) {
	is := isErofs(t.mountpoint(x.id))
	if is == x.mounted {
		return
	}
	if x.mounted = is; is {
		t.o.Cache.Pin(imageKey(x.id))
	} else {
		t.o.Cache.Unpin(imageKey(x.id))
	}
}

// unmount takes x's mount away. x's work is held.
func (t *Tier) unmount(x *tree) {
	x.mounted = false
	t.o.Cache.Unpin(imageKey(x.id))
	if err := remove(context.Background(), t.mountpoint(x.id)); err != nil {
		t.o.Log.Warn("tree not unmounted; the next start tries again", "tree", x.id.String(), "error", err)
	}
}

// Sweep takes away the mounts of an earlier process that nobody holds. It is
// called once all who hold trees have said so.
func (t *Tier) Sweep(ctx context.Context) error {
	dir := filepath.Join(t.o.Dir, "trees")
	list, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("image tier: %w", err)
	}
	var errs []error
	for _, e := range list {
		if id, ok := parseTreeName(e.Name()); !ok || !t.held(id) {
			errs = append(errs, remove(ctx, filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

func (t *Tier) held(id imagemeta.TreeID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.trees[id] != nil
}

// remove unmounts whatever is mounted at dir and removes it.
func remove(ctx context.Context, dir string) error {
	if err := detachAll(ctx, dir); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("mountpoint: %w", err)
	}
	return nil
}

func detachAll(ctx context.Context, dir string) error {
	_, err := overlay.Unmount(ctx, dir)
	return err
}

// isMountpoint reports whether something is mounted at dir, without asking what
// is.
func isMountpoint(dir string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW|unix.AT_STATX_DONT_SYNC, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

func isErofs(dir string) bool {
	var st unix.Statfs_t
	return isMountpoint(dir) && unix.Statfs(dir, &st) == nil && st.Type == unix.EROFS_SUPER_MAGIC_V1
}
