// Package thintar writes and reads thin tars: archives of a few kilobytes that
// stand where Diego expects a stack's root file system (docs/garden.md 1). rep
// looks for ./etc/stack-version in the file and hands its path on; the plugin
// finds in it which published tree is meant.
//
// A thin tar names a channel or a version. With a channel, the stack's content
// moves without anybody touching the cell.
package thintar

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/reference"
)

// Ext ends a thin tar's file name: rep takes what stands before it for the
// stack's name.
const Ext = ".tar"

const (
	// maxFile bounds a thin tar in bytes, and so what is read of anything
	// that turns out to be none.
	maxFile    = 64 << 10
	maxEntries = 16

	versionFile    = "./etc/stack-version"
	descriptorFile = "./etc/rootstock.json"
	format         = 1
)

// ErrNone reports a file that is no thin tar: a stack's real archive, or
// something else altogether.
var ErrNone = errors.New("no thin tar")

// Descriptor is what a thin tar says.
type Descriptor struct {
	// Ref names the repository and a version or channel, or neither for the
	// newest version.
	Ref reference.Reference
	// Tree is the id of the only tree that may be used, 64 hex digits; empty
	// for whatever Ref names when a container is created.
	Tree string
}

func (d Descriptor) check() error {
	if err := d.Ref.Validate(); err != nil {
		return err
	}
	if d.Ref.Repository == "" || d.Ref.Path != "" {
		return fmt.Errorf("%s: a thin tar names a repository and a tree: cvmfs://REPOSITORY/rootfs/NAME[@VERSION|:CHANNEL]", d.Ref)
	}
	if d.Tree != "" && (len(d.Tree) != 64 || strings.Trim(d.Tree, "0123456789abcdef") != "") {
		return fmt.Errorf("tree %.80q is not 64 hex digits", d.Tree)
	}
	return nil
}

type document struct {
	Format int                 `json:"format"`
	Ref    reference.Reference `json:"reference"`
	Tree   string              `json:"tree,omitempty"`
}

// Write writes the thin tar of d. The same descriptor gives the same bytes.
func Write(w io.Writer, d Descriptor) error {
	if err := d.check(); err != nil {
		return fmt.Errorf("thin tar: %w", err)
	}
	text, err := json.Marshal(document{format, d.Ref, d.Tree})
	if err != nil {
		return fmt.Errorf("thin tar: %w", err)
	}
	version := d.Ref.Version + d.Ref.Channel // one of them at most
	if version == "" {
		version = "newest"
	}
	t := tar.NewWriter(w)
	for _, e := range []struct {
		name, text string
	}{{"./", ""}, {"./etc/", ""}, {versionFile, version + "\n"}, {descriptorFile, string(text) + "\n"}} {
		h := &tar.Header{Name: e.name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(e.text)), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if strings.HasSuffix(e.name, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		if err := t.WriteHeader(h); err != nil {
			return fmt.Errorf("thin tar: %s: %w", e.name, err)
		}
		if _, err := io.WriteString(t, e.text); err != nil {
			return fmt.Errorf("thin tar: %s: %w", e.name, err)
		}
	}
	if err := t.Close(); err != nil {
		return fmt.Errorf("thin tar: %w", err)
	}
	return nil
}

// WriteFile writes the thin tar of d to path, whole or not at all: rep may read
// the directory at any moment. A file that holds the same already is left
// alone. Its directory must exist.
func WriteFile(path string, d Descriptor) error {
	var text bytes.Buffer
	if err := Write(&text, d); err != nil {
		return err
	}
	if have, err := readFile(path); err == nil && bytes.Equal(have, text.Bytes()) {
		return nil
	}
	// A name that does not end in .tar, for rep takes every one that does.
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(tmp, text.Bytes(), 0o644); err != nil { // #nosec G306 -- rep runs as another user
		return fmt.Errorf("thin tar: %w", err)
	}
	if err := errors.Join(os.Chmod(tmp, 0o644), os.Rename(tmp, path)); err != nil { // #nosec G302 -- see above
		os.Remove(tmp) //nolint:errcheck // the first error counts
		return fmt.Errorf("thin tar: %w", err)
	}
	return nil
}

// ReadFile reads the thin tar at path, and no more than [maxFile] bytes of
// whatever else it may be. It returns [ErrNone] for a file that is no thin tar
// and fs.ErrNotExist for none.
func ReadFile(path string) (Descriptor, error) {
	text, err := readFile(path)
	if err != nil {
		return Descriptor{}, fmt.Errorf("%s: %w", path, err)
	}
	d, err := Read(bytes.NewReader(text))
	if err != nil {
		return Descriptor{}, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

func readFile(path string) ([]byte, error) {
	// Whatever stands there, opening it must not wait.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	if st, err := f.Stat(); err != nil {
		return nil, err
	} else if !st.Mode().IsRegular() || st.Size() > maxFile {
		return nil, ErrNone
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = ErrNone
	}
	return text, err
}

// Read reads a thin tar of at most 16 entries.
func Read(r io.Reader) (Descriptor, error) {
	t := tar.NewReader(io.LimitReader(r, maxFile))
	for range maxEntries {
		h, err := t.Next()
		if err != nil {
			return Descriptor{}, fmt.Errorf("%w: %w", ErrNone, err)
		}
		if h.Name == descriptorFile && h.Typeflag == tar.TypeReg {
			return parse(t)
		}
	}
	return Descriptor{}, ErrNone
}

func parse(r io.Reader) (Descriptor, error) {
	var doc document
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		return Descriptor{}, fmt.Errorf("thin tar: %s: %w", descriptorFile, err)
	}
	if doc.Format != format {
		return Descriptor{}, fmt.Errorf("thin tar of format %d: this release reads format %d; write it again with rootstock thin-tar", doc.Format, format)
	}
	d := Descriptor{doc.Ref, doc.Tree}
	if err := d.check(); err != nil {
		return Descriptor{}, fmt.Errorf("thin tar: %w", err)
	}
	return d, nil
}
