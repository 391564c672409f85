// Package ociimage reads the OCI image layouts that Guardian writes for
// preloaded+layer root file systems (docs/garden.md 1), and puts their layers, which
// are droplets, into containers.
//
// A layout's first layer is a symbolic link to the stack's archive under a
// made-up digest. Its second, where there is one, is not in the layout: its
// descriptor has the URLs to fetch it from and, as an annotation, the directory
// it belongs in.
package ociimage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrLayout reports a layout that is not one of Guardian's.
var ErrLayout = errors.New("not a preloaded+layer image")

// baseDirectory is the annotation with the directory that a layer goes to.
const baseDirectory = "org.cloudfoundry.experimental.image.base-directory"

const (
	maxDocument = 1 << 20 // bytes of index and manifest
	maxURLs     = 8
)

// Image is what a layout says.
type Image struct {
	Base  string // the stack's path
	Layer *Layer // nil where there is only the stack
}

// Layer is one that has to be fetched.
type Layer struct {
	Digest string   // sha256:<64 hex digits> of the bytes as they come
	Size   int64    // bytes; 0 for not known
	URLs   []string // http or https, to be tried in order
	Dir    string   // absolute in the container, "/" for its root
}

type descriptor struct {
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	URLs        []string          `json:"urls"`
	Annotations map[string]string `json:"annotations"`
}

// Read reads the layout in dir.
func Read(dir string) (Image, error) {
	image, err := read(dir)
	if err != nil {
		return Image{}, fmt.Errorf("image layout %s: %w", dir, err)
	}
	return image, nil
}

func read(dir string) (Image, error) {
	var index struct {
		Manifests []descriptor `json:"manifests"`
	}
	if err := decode(filepath.Join(dir, "index.json"), &index); err != nil {
		return Image{}, err
	}
	if len(index.Manifests) != 1 {
		return Image{}, fmt.Errorf("%w: %d manifests instead of one", ErrLayout, len(index.Manifests))
	}
	file, err := blob(dir, index.Manifests[0].Digest)
	if err != nil {
		return Image{}, err
	}
	var manifest struct {
		Layers []descriptor `json:"layers"`
	}
	if err := decode(file, &manifest); err != nil {
		return Image{}, err
	}
	if n := len(manifest.Layers); n < 1 || n > 2 {
		return Image{}, fmt.Errorf("%w: %d layers instead of a stack and a droplet", ErrLayout, n)
	}
	if file, err = blob(dir, manifest.Layers[0].Digest); err != nil {
		return Image{}, err
	}
	base, err := os.Readlink(file)
	if err != nil {
		return Image{}, fmt.Errorf("%w: the first layer is no link to a stack: %w", ErrLayout, err)
	}
	if !filepath.IsAbs(base) {
		base = filepath.Join(filepath.Dir(file), base)
	}
	image := Image{Base: filepath.Clean(base)}
	if len(manifest.Layers) == 2 {
		image.Layer, err = layer(manifest.Layers[1])
	}
	return image, err
}

func layer(d descriptor) (*Layer, error) {
	if _, err := hexOf(d.Digest); err != nil {
		return nil, err
	}
	l := &Layer{Digest: d.Digest, Size: max(d.Size, 0), URLs: d.URLs, Dir: d.Annotations[baseDirectory]}
	if len(l.URLs) == 0 || len(l.URLs) > maxURLs {
		return nil, fmt.Errorf("%w: its second layer has %d urls", ErrLayout, len(l.URLs))
	}
	for _, u := range l.URLs {
		if !strings.HasPrefix(u, "https://") && !strings.HasPrefix(u, "http://") {
			return nil, fmt.Errorf("%w: a layer can be fetched by https or http only", ErrLayout)
		}
	}
	if l.Dir == "" {
		l.Dir = "/"
	}
	if !filepath.IsAbs(l.Dir) || strings.IndexByte(l.Dir, 0) >= 0 {
		return nil, fmt.Errorf("%w: the annotation %s is %.200q, not an absolute path", ErrLayout, baseDirectory, l.Dir)
	}
	return l, nil
}

// hexOf is the file name of a digest, which cannot lead out of a directory.
func hexOf(digest string) (string, error) {
	hex, ok := strings.CutPrefix(digest, "sha256:")
	if !ok || len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%w: digest %.100q is not sha256: and 64 hex digits", ErrLayout, digest)
	}
	return hex, nil
}

func blob(dir, digest string) (string, error) {
	hex, err := hexOf(digest)
	return filepath.Join(dir, "blobs", "sha256", hex), err
}

// decode reads a document of the layout. Fields it does not know are
// annotations and media types of no consequence.
func decode(path string, into any) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	if err := json.NewDecoder(io.LimitReader(f, maxDocument)).Decode(into); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrLayout, filepath.Base(path), err)
	}
	return nil
}
