package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/imagemeta/erofs"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// Probe tries in a directory below dir all that the image tier needs of the
// kernel: it mounts an EROFS image, an overlay with two data-only layers on it,
// and reads a content out of the second one. It returns an error that wraps
// [ErrUnsupported] and says which of these failed.
func Probe(ctx context.Context, dir string) (err error) {
	dir = filepath.Join(dir, "probe")
	at := func(name string) string { return filepath.Join(dir, name) }
	clean := func() error {
		return errors.Join(detachAll(ctx, at("root")), detachAll(ctx, at("tree")), os.RemoveAll(dir))
	}
	if err := clean(); err != nil { // of one that was killed
		return fmt.Errorf("probe for the image tier: %w", err)
	}
	defer func() { err = errors.Join(err, clean()) }()
	data := []byte("rootstock\n")
	for _, d := range []string{"tree", "root", "first", "second"} {
		if err := os.MkdirAll(at(d), 0o700); err != nil {
			return fmt.Errorf("probe for the image tier: %w", err)
		}
	}
	if err := writeProbe(at("image"), at("second"), data); err != nil {
		return fmt.Errorf("probe for the image tier: %w", err)
	}
	if _, err := erofs.Mount(at("image"), at("tree")); err != nil {
		return fmt.Errorf("%w: EROFS: %w", ErrUnsupported, err)
	}
	if err := overlay.Mount(overlay.Layers{
		Lower: []string{at("tree")}, Data: []string{at("first"), at("second")}, Options: overlayOptions,
	}, at("root")); err != nil {
		return fmt.Errorf("%w: data-only layers of overlayfs (Linux 6.5): %w", ErrUnsupported, err)
	}
	got, err := os.ReadFile(at("root/file"))
	if err == nil && !bytes.Equal(got, data) {
		err = fmt.Errorf("read %q", got)
	}
	if err != nil {
		return fmt.Errorf("%w: redirects into data-only layers of overlayfs (Linux 6.5): %w", ErrUnsupported, err)
	}
	return nil
}

// writeProbe writes an image of one file, and its content into a data layer.
func writeProbe(image, layer string, data []byte) error {
	id := object.ContentOf(data)
	content := filepath.Join(layer, id.CachePath())
	if err := os.Mkdir(filepath.Dir(content), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(content, data, 0o400); err != nil {
		return err
	}
	return writeImage(image, []imagemeta.Entry{
		{Mode: modeDir | 0o755},
		{Path: "file", Mode: modeRegular | 0o644, Size: int64(len(data)), Content: id},
	})
}

const (
	modeDir     = 0o040000
	modeRegular = 0o100000
)
