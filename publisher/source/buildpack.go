package source

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/rootstock-cf/rootstock/publisher/source/zipfile"
)

// Files of a buildpack that say what it is called.
const (
	versionFile  = "VERSION"
	manifestFile = "manifest.yml"

	maxVersionFile = 4 << 10 // bytes
	maxYAML        = 1 << 20 // bytes, what Cloud Controller reads at most
)

// OpenBuildpack opens a buildpack's zip, cached or uncached. Its list of files
// is read and judged, and the file hashed, before it returns; contents are read
// when its one layer is, and the file is open until [Source.Close].
//
// Owners are 0:0, which a zip does not state; modes and times are the zip's.
func OpenBuildpack(ctx context.Context, file string, o Options) (_ *Source, err error) {
	o = o.withDefaults()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := openRegular(file)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	z := &zipped{file: f}
	if z.was, err = f.Stat(); err != nil {
		return nil, err
	}
	if z.archive, err = zipfile.Open(f, z.was.Size(), zipfile.Limits{MaxBytes: o.MaxBytes, MaxRatio: o.MaxRatio}); err != nil {
		return nil, fmt.Errorf("buildpack %s: %w", file, err)
	}
	s := &Source{Kind: KindBuildpack, Spelled: filepath.Base(file), closers: []func() error{f.Close}}
	if s.Name, s.Version, err = z.calledItself(); err != nil {
		return nil, fmt.Errorf("buildpack %s: %w", file, err)
	}
	if s.Digest, err = z.digest(ctx); err != nil {
		return nil, fmt.Errorf("buildpack %s: %w", file, err)
	}
	s.Notes = z.notes()
	s.Layers = []Layer{&made{what: "buildpack " + file, size: z.tarred(), write: z.write, learned: func(got) error { return z.same() }}}
	return s, nil
}

// zipped is an open zip.
type zipped struct {
	file    *os.File
	was     os.FileInfo
	archive *zipfile.Archive
}

// same reports whether the file is still the one that was hashed.
func (z *zipped) same() error {
	now, err := z.file.Stat()
	if err != nil {
		return err
	}
	if now.Size() != z.was.Size() || !now.ModTime().Equal(z.was.ModTime()) {
		return fmt.Errorf("%w: it changed while it was being read", ErrDigest)
	}
	return nil
}

// tarred is about how long the tar of the files is.
func (z *zipped) tarred() int64 {
	const each = 3 * blockSize // header, times, padding
	n := int64(0)
	for i := range z.archive.Files {
		n += z.archive.Files[i].Size + each
	}
	return n
}

func (z *zipped) digest(ctx context.Context) (string, error) {
	hash := sha256.New()
	buf := make([]byte, chunkBytes)
	for in := io.NewSectionReader(z.file, 0, z.was.Size()); ; {
		n, err := in.Read(buf)
		hash.Write(buf[:n]) //nolint:errcheck // a hash.Hash never fails
		if errors.Is(err, io.EOF) {
			return sum(hash), z.same()
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return "", err
		}
	}
}

// calledItself reads the buildpack's own name and version, where it has them.
func (z *zipped) calledItself() (name, version string, err error) {
	for i := range z.archive.Files {
		switch f := &z.archive.Files[i]; f.Name {
		case versionFile:
			text, err := z.small(f, maxVersionFile)
			if err != nil {
				return "", "", err
			}
			version = strings.TrimSpace(string(text))
		case manifestFile:
			text, err := z.small(f, maxYAML)
			if err != nil {
				return "", "", err
			}
			var doc struct {
				Language string `yaml:"language"`
			}
			if err := yaml.Unmarshal(text, &doc); err == nil {
				name = doc.Language // of one that cannot be read, the arguments decide
			}
		}
	}
	return name, version, nil
}

// small reads a regular file of at most limit bytes; of a larger one, nothing.
func (z *zipped) small(f *zipfile.File, limit int64) ([]byte, error) {
	if f.Mode&zipfile.ModeType != zipfile.ModeRegular || f.Size > limit {
		return nil, nil
	}
	text, err := io.ReadAll(z.archive.NewReader().Open(f))
	if err != nil {
		return nil, fmt.Errorf("%q: %w", f.Name, err)
	}
	return text, nil
}

func (z *zipped) notes() []string {
	plain := 0
	for i := range z.archive.Files {
		if f := &z.archive.Files[i]; f.Plain && f.Mode&zipfile.ModeType == zipfile.ModeRegular {
			plain++
		}
	}
	if plain == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d of the zip's %d entries state no permissions (a zip from Windows?): they are not executable", plain, len(z.archive.Files))}
}

// write writes the files in the order in which they lie in the zip.
func (z *zipped) write(ctx context.Context, t *tar.Writer) error {
	r := z.archive.NewReader()
	buf := make([]byte, chunkBytes)
	for i := range z.archive.Files {
		f := &z.archive.Files[i]
		if err := errors.Join(ctx.Err(), z.add(t, r, f, buf)); err != nil {
			return fmt.Errorf("%q: %w", f.Name, err)
		}
	}
	return nil
}

func (z *zipped) add(t *tar.Writer, r *zipfile.Reader, f *zipfile.File, buf []byte) error {
	h := &tar.Header{
		Name: f.Name, Mode: int64(f.Mode &^ zipfile.ModeType), Size: f.Size, ModTime: f.ModTime,
		Typeflag: tar.TypeReg, Format: tar.FormatPAX,
	}
	switch f.Mode & zipfile.ModeType {
	case zipfile.ModeDir:
		h.Typeflag, h.Name = tar.TypeDir, f.Name+"/"
		return t.WriteHeader(h)
	case zipfile.ModeSymlink:
		target, err := io.ReadAll(r.Open(f))
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, string(target), 0
		return t.WriteHeader(h)
	}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.CopyBuffer(struct{ io.Writer }{t}, r.Open(f), buf)
	return err
}
