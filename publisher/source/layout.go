package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// files is a tree of files that a layout lies in.
type files interface {
	// blob returns the file of a slash-separated path, or ErrNotFound.
	blob(name string) (blob, error)
	close() error
}

// dir is files below a directory of the operator's.
type dir string

func (d dir) blob(name string) (blob, error) {
	return fileBlob{path: filepath.Join(string(d), filepath.FromSlash(name)), size: -1}, nil
}

func (dir) close() error { return nil }

// layout is an OCI image layout.
type layout struct {
	files
	ref    string
	source *Source
}

// openLayout opens a layout, or a tar of one, whichever lies there.
func openLayout(ctx context.Context, path, ref string, o Options, s *Source) (container, error) {
	if i, err := os.Stat(path); err == nil && i.Mode().IsRegular() {
		return openLayoutArchive(ctx, path, ref, o, s)
	}
	return &layout{dir(path), ref, s}, nil
}

func openLayoutArchive(ctx context.Context, path, ref string, o Options, s *Source) (container, error) {
	a, err := openArchive(ctx, path, o)
	if err != nil {
		return nil, err
	}
	return &layout{a, ref, s}, nil
}

const (
	refName    = "org.opencontainers.image.ref.name"
	fullName   = "io.containerd.image.name"
	indexFile  = "index.json"
	blobFolder = "blobs"
)

// root finds REF among the index's annotations. Without REF there must be only
// one image, or one per platform.
func (l *layout) root(ctx context.Context) ([]byte, types.MediaType, error) {
	raw, err := l.read(ctx, indexFile, maxManifest)
	if errors.Is(err, ErrNotFound) {
		return nil, "", fmt.Errorf("%w; is this an OCI image layout?", err)
	} else if err != nil {
		return nil, "", err
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, "", fmt.Errorf("%w %s: %w", ErrFormat, indexFile, err)
	}
	var found []v1.Descriptor
	var names []string
	platforms := true
	for _, d := range index.Manifests {
		n := d.Annotations[refName]
		names = append(names, fmt.Sprintf("%q", n))
		if l.ref == "" || l.ref == n || l.ref == d.Annotations[fullName] {
			found = append(found, d)
			platforms = platforms && d.Platform != nil
		}
	}
	switch {
	case len(found) == 0 && l.ref != "":
		return nil, "", fmt.Errorf("%w: no image %q, there are %s", ErrNotFound, l.ref, quoteList(names))
	case len(found) == 0:
		return nil, "", fmt.Errorf("%w: %s lists no image", ErrNotFound, indexFile)
	case len(found) > 1 && platforms && l.ref == "":
		return raw, types.OCIImageIndex, nil
	case len(found) > 1:
		return nil, "", fmt.Errorf("%w: several images, %s; name one behind a colon", ErrUnsupported, quoteList(names))
	}
	d := found[0]
	l.source.setName(d.Annotations[fullName], d.Annotations[refName])
	raw, err = l.manifest(ctx, d)
	if err == nil {
		err = verify("manifest", raw, d)
	}
	return raw, d.MediaType, err
}

func (l *layout) manifest(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	return l.read(ctx, blobPath(d), maxManifest)
}

func (l *layout) config(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	return l.read(ctx, blobPath(d), maxConfig)
}

func (l *layout) layer(d v1.Descriptor) (blob, error) { return l.blob(blobPath(d)) }

func (l *layout) read(ctx context.Context, name string, limit int64) ([]byte, error) {
	return readFile(ctx, l.files, name, limit)
}

func readFile(ctx context.Context, in files, name string, limit int64) ([]byte, error) {
	b, err := in.blob(name)
	if err != nil {
		return nil, err
	}
	f, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	raw, err := readSmall(f, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return raw, nil
}

// blobPath is safe to use as a path: a parsed v1.Hash is an algorithm's name
// and hex digits.
func blobPath(d v1.Descriptor) string {
	return path.Join(blobFolder, d.Digest.Algorithm, d.Digest.Hex)
}

// setName takes the first full image name of those given, and otherwise a tag.
func (s *Source) setName(names ...string) {
	for _, n := range names {
		if !strings.Contains(n, "/") && !strings.Contains(n, ":") {
			continue
		}
		if t, err := name.NewTag(n); err == nil {
			s.Registry, s.Repository, s.Tag = registryName(t.Context()), t.RepositoryStr(), t.TagStr()
			return
		}
	}
	for _, n := range names {
		if t, err := name.NewTag("x:" + n); n != "" && err == nil {
			s.Tag = t.TagStr()
			return
		}
	}
}

// registryName is the registry as people and repository paths have it.
func registryName(r name.Repository) string {
	if r.RegistryStr() == name.DefaultRegistry {
		return "docker.io"
	}
	return r.RegistryStr()
}
