package rootfsprovider

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// mapLayers mounts an idmapped clone of each layer at <dir>/lower/<n>. Data
// layers need none: their files are read by the overlay, which takes owners
// from the layers above.
func (p *Provider) mapLayers(dir string, lowers []string) ([]string, error) {
	ns, err := overlay.UserNamespace(p.mapping)
	if err != nil {
		return nil, err
	}
	defer ns.Close() //nolint:errcheck // the mounts have their own reference
	base := filepath.Join(dir, "lower")
	if err := mkdir(base, 0o700); err != nil {
		return nil, err
	}
	mapped := make([]string, len(lowers))
	for i, source := range lowers {
		mapped[i] = filepath.Join(base, strconv.Itoa(i))
		if err := mkdir(mapped[i], 0o700); err != nil {
			return nil, err
		}
		if err := overlay.MountMapped(source, mapped[i], ns); err != nil {
			return nil, err
		}
	}
	return mapped, nil
}

// unmapLayers takes away what mapLayers made, all or part of it.
func unmapLayers(ctx context.Context, dir string) error {
	base := filepath.Join(dir, "lower")
	entries, err := os.ReadDir(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("mapped layers: %w", err)
	}
	for _, e := range entries {
		mapped := filepath.Join(base, e.Name())
		if _, err := overlay.Unmount(ctx, mapped); err != nil {
			return err
		}
		if err := os.Remove(mapped); err != nil {
			return fmt.Errorf("mapped layers: %w", err)
		}
	}
	if err := os.Remove(base); err != nil {
		return fmt.Errorf("mapped layers: %w", err)
	}
	return nil
}
