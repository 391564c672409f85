// Package wishlist reads the operator's list of what a repository is to hold
// (images, root file systems, buildpacks, directories, where channels point,
// what is kept) and makes of it the steps that bring the repository there.
//
// In goes a YAML file, ours or a recipe (version 1) of DUCC, the image converter
// of CernVM-FS; out come publisher.Steps, of which each opens its source only
// when it is carried out. Patterns for tags, repositories and files are looked
// up on the way, and what fails there is a step that fails, so that the others
// are carried out.
package wishlist

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

// Bounds on a list: bytes of the file, and entries of all kinds together.
const (
	maxBytes   = 1 << 20
	maxEntries = 10_000
)

// ErrMalformed reports a list that cannot be read. The texts that wrap it name
// the line.
var ErrMalformed = errors.New("malformed list")

// List is the file. Unknown fields are errors.
type List struct {
	// Version is 1, or left out.
	Version int `yaml:"version"`
	// Repository is the FQRN the list is meant for; "" for any.
	Repository string `yaml:"repository"`

	Images     []Image     `yaml:"images"`
	Rootfs     []Rootfs    `yaml:"rootfs"`
	Buildpacks []Buildpack `yaml:"buildpacks"`
	Dirs       []Dir       `yaml:"dirs"`
	Channels   []Channel   `yaml:"channels"`
	Keep       []Keep      `yaml:"keep"`

	// The fields of a recipe. User and OutputFormat are about pushing thin
	// images to a registry, which needs nobody here.
	CVMFSRepo    string   `yaml:"cvmfs_repo"`
	User         string   `yaml:"user"`
	OutputFormat string   `yaml:"output_format"`
	Input        []string `yaml:"input"`

	dir string // that file names are relative to
}

// Image is one image, or those that a pattern matches.
type Image struct {
	// Source is as for rootstock publish image. Of docker://HOST/REPO:TAG, REPO
	// and TAG may be patterns of [path.Match].
	Source string `yaml:"source"`
	// Exclude are patterns of tags that are left out.
	Exclude []string `yaml:"exclude"`
	// Newest takes only so many tags of each repository, the highest as
	// versions are compared; 0 for all.
	Newest int `yaml:"newest"`
	// Platform is OS/ARCH[/VARIANT]; "" is the command line's.
	Platform string `yaml:"platform"`
	// As is the name to publish under, REGISTRY/REPOSITORY:TAG; of a pattern
	// for tags, REGISTRY/REPOSITORY.
	As string `yaml:"as"`
}

// Rootfs is a tarball, or those that a pattern matches.
type Rootfs struct {
	// Name and Version may be left out where the tarball says them.
	Name    string `yaml:"name"`
	Version string `yaml:"version"`
	// File is a name or a pattern of [filepath.Match].
	File string `yaml:"file"`
	// Image stands in File's place: a run image, written as for an image.
	Image string `yaml:"image"`
	// Receipt is the list of packages; "" is the one beside the file, if any.
	Receipt string `yaml:"receipt"`
}

// Buildpack is a buildpack's zip, or those that a pattern matches.
type Buildpack struct {
	Name    string `yaml:"name"`
	Version string `yaml:"version"`
	File    string `yaml:"file"`
}

// Dir is a directory.
type Dir struct {
	Name    string `yaml:"name"`
	Version string `yaml:"version"`
	Dir     string `yaml:"dir"`
}

// Channel says where a channel points.
type Channel struct {
	Name    string `yaml:"name"` // KIND/NAME
	Channel string `yaml:"channel"`
	// Version left out is the one published last.
	Version string `yaml:"version"`
}

// Keep says how many versions stay.
type Keep struct {
	// Name is KIND/NAME; NAME may be a pattern of [path.Match].
	Name     string `yaml:"name"`
	Versions int    `yaml:"versions"`
}

// Read reads a list from a file.
func Read(name string) (*List, error) {
	f, err := os.Open(name) // #nosec G304 -- the operator's own
	if err != nil {
		return nil, fmt.Errorf("read the list: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	l, err := Parse(f, filepath.Dir(name))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return l, nil
}

// Parse reads a list; names of files in it are relative to dir.
func Parse(r io.Reader, dir string) (*List, error) {
	dec := yaml.NewDecoder(&bounded{in: r, left: maxBytes})
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: it is empty", ErrMalformed)
		}
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := plain(&doc); err != nil {
		return nil, err
	}
	l := &List{dir: dir}
	if err := strict(&doc, l); err != nil {
		return nil, err
	}
	var second yaml.Node
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: more than one document", ErrMalformed)
	}
	return l, l.check()
}

// bounded fails where a limited reader would pretend an end.
type bounded struct {
	in   io.Reader
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.in.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, fmt.Errorf("more than %d bytes", maxBytes)
	}
	return n, err
}

// plain refuses aliases, with which a short file can say a great deal, and
// which a list has no use for.
func plain(n *yaml.Node) error {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return fmt.Errorf("%w: line %d: anchors and aliases are not taken", ErrMalformed, n.Line)
	}
	for _, c := range n.Content {
		if err := plain(c); err != nil {
			return err
		}
	}
	return nil
}
