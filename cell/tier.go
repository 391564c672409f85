package cell

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/rootstock-cf/rootstock/cell/image"
	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
)

// How containers are shown trees (docs/design/cell.md).
const (
	TierAuto  = "auto"  // images if the kernel can show them
	TierImage = "image" // images, or an error
	TierTree  = "tree"  // directories of the repository's mount
)

// chooseTier decides, once, by trying.
func (c *Cell) chooseTier(ctx context.Context) error {
	switch c.o.Tier {
	case TierTree:
		c.tierWhy = "configured"
	case TierImage, TierAuto, "":
		t, err := image.Open(ctx, image.Options{
			Cache: c.cache, Dir: c.o.RunDir, Opened: c.noteOpened, Holder: c.holder, NoResend: c.o.NoResend,
			FillRate: c.o.FillRate, FillDelay: c.o.FillDelay, Log: c.o.Log,
		})
		switch {
		case err == nil:
			c.images, c.tierWhy = t, "the kernel has EROFS and data-only overlay layers"
			if c.o.Tier == TierImage {
				c.tierWhy = "configured"
			}
		case !errors.Is(err, image.ErrUnsupported):
			return err
		case c.o.Tier == TierImage:
			return fmt.Errorf("%w; use a newer kernel, or the tier auto or tree", err)
		default:
			c.tierWhy = err.Error()
		}
	default:
		return fmt.Errorf("tier %q is not one of %s, %s, %s", c.o.Tier, TierAuto, TierImage, TierTree)
	}
	c.o.Log.Info("containers get the "+c.tier()+" tier", "reason", c.tierWhy)
	return nil
}

func (c *Cell) tier() string {
	if c.images == nil {
		return TierTree
	}
	return TierImage
}

// sweepTrees removes what an earlier daemon left, once all pins are known.
func (c *Cell) sweepTrees(ctx context.Context) {
	if c.images == nil {
		return
	}
	if err := c.images.Sweep(ctx); err != nil {
		c.o.Log.Warn("mounts of an earlier daemon are left", "error", err)
	}
}

// imageLower makes a tree ready as an image. It reports false without an error
// for what has none.
func (m *mounted) imageLower(ctx context.Context, n pin, found *resolved) (bool, error) {
	if m.cell.images == nil {
		return false, nil
	}
	var layers image.Layers
	id, err := object.ParseContentID(n.Tree)
	published := err == nil
	if published {
		layers, err = m.cell.images.Acquire(ctx, m.repo, id)
	} else {
		layers, id, err = m.directoryImage(ctx, &n, found.path)
	}
	for _, without := range []error{fs.ErrNotExist, imagemeta.ErrUnsupported, imagemeta.ErrTooLarge, cache.ErrCannotStore} {
		if errors.Is(err, without) {
			m.cell.o.Log.Warn("container gets the tree tier", "handle", n.Handle, "path", found.path, "reason", err)
			return false, nil
		}
	}
	if err != nil {
		return false, err
	}
	defer m.cell.images.Release(m.repo, id) // the pin holds it
	n.Image = true
	if err := m.pins.pin(ctx, n); err != nil {
		return false, err
	}
	if published { // what others opened has to be named by its content
		m.cell.profiles.Begin(n.Handle, id)
	}
	l := &found.lower
	l.Lower, l.Data, l.Options = layers.Lower, layers.Data, layers.Options
	return true, nil
}

// directoryImage makes one of a directory that was not published as a tree.
func (m *mounted) directoryImage(ctx context.Context, n *pin, path string) (image.Layers, imagemeta.TreeID, error) {
	at, below, err := m.holder(ctx, path)
	if err != nil {
		return image.Layers{}, imagemeta.TreeID{}, err
	}
	n.Catalog, n.Size, n.Below = at.Catalog, at.Size, below
	c, err := m.repo.Compile(ctx, client.Directory{Catalog: at.Catalog, Size: at.Size, Path: below})
	if err != nil {
		return image.Layers{}, imagemeta.TreeID{}, err
	}
	n.Compiled = c.ID.String()
	layers, err := m.cell.images.AcquireDirectory(ctx, m.repo, c)
	return layers, c.ID, err
}

func (c *Cell) imageStatus() *ImageStatus {
	if c.images == nil {
		return nil
	}
	s := c.images.Stats()
	return &ImageStatus{Trees: s.Trees, Requests: s.Requests, Failures: s.Failures}
}
