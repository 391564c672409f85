package rootfsprovider

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/rootfsprovider/ociimage"
	"github.com/rootstock-cf/rootstock/rootfsprovider/thintar"
)

// Preloaded resolves the path of a stack's archive, which is mapped by the
// configuration or is a thin tar.
type Preloaded struct {
	Paths map[string]string // to cvmfs:// URIs
	CVMFS CVMFS
}

// Resolve implements [Resolver].
func (p Preloaded) Resolve(_ context.Context, path string) (Root, error) {
	path = strings.Replace(path, "#", ":", 1)
	if !filepath.IsAbs(path) || strings.IndexByte(path, 0) >= 0 || len(path) > reference.MaxLen {
		return Root{}, fmt.Errorf("%w %s: want a URI such as cvmfs://REPOSITORY/rootfs/NAME, or a stack's absolute path",
			ErrUnsupported, show(path))
	}
	if uri, ok := p.Paths[path]; ok {
		ref, err := p.CVMFS.parse(uri)
		return Root{Refs: []reference.Reference{ref}}, err
	}
	d, err := thintar.ReadFile(path)
	if errors.Is(err, thintar.ErrNone) {
		return Root{}, fmt.Errorf("%w: %w; publish it with rootstock publish rootfs and put what rootstock thin-tar writes in its place, "+
			"or map the path under preloaded in the plugin's configuration", ErrUnsupported, err)
	}
	if err != nil {
		return Root{}, fmt.Errorf("stack: %w", err)
	}
	if name, ok := p.CVMFS[d.Ref.Repository]; ok {
		d.Ref.Repository = name
	}
	return Root{Refs: []reference.Reference{d.Ref}, Tree: d.Tree}, nil
}

// Layouts resolves oci:// URIs: the layout that Guardian writes for a stack
// with a droplet on top (docs/garden.md 1).
type Layouts struct{ Base Resolver }

// Resolve implements [Resolver].
func (l Layouts) Resolve(ctx context.Context, uri string) (Root, error) {
	dir := strings.Replace(strings.TrimPrefix(uri, "oci://"), "#", ":", 1)
	if !filepath.IsAbs(dir) {
		return Root{}, fmt.Errorf("%w %s: want oci:// and an absolute path", ErrUnsupported, show(uri))
	}
	image, err := ociimage.Read(filepath.Clean(dir))
	if err != nil {
		return Root{}, fmt.Errorf("%s: %w", show(uri), err)
	}
	root, err := l.Base.Resolve(ctx, image.Base)
	if err != nil {
		return Root{}, err
	}
	root.Droplet = image.Layer
	return root, nil
}
