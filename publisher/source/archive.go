package source

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// archive is the files of a tar, found once and then read where they lie.
type archive struct {
	file    string
	entries map[string]fileBlob
	links   map[string]string // symbolic and hard, to cleaned targets
	remove  string            // the decompressed copy, if there is one
}

const (
	maxArchiveEntries = 100_000
	maxArchiveLinks   = 8
)

// openArchive lists a tar. A compressed one (docker save | gzip) is first
// decompressed into Options.TempDir.
func openArchive(ctx context.Context, file string, o Options) (*archive, error) {
	head, err := readHead(file)
	if err != nil {
		return nil, err
	}
	form, err := sniff(head)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	a := &archive{file: file, entries: map[string]fileBlob{}, links: map[string]string{}}
	if form != plain {
		if a.file, err = inflate(ctx, file, o); err != nil {
			return nil, err
		}
		a.remove = a.file
	}
	if err := a.list(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", file, err), a.close())
	}
	return a, nil
}

// inflate writes the decompressed form of file and returns its name.
func inflate(ctx context.Context, file string, o Options) (string, error) {
	out, err := os.CreateTemp(o.TempDir, "rootstock-archive-*.tar")
	if err != nil {
		return "", err
	}
	r := newReading(fileBlob{path: file, size: -1}, o, &budget{max: o.MaxBytes})
	r.want = want{size: -1, allowXZ: true}
	in, err := r.open(ctx, nil)
	if err == nil {
		in.what = file
		_, err = io.Copy(out, in)
		in.Close() //nolint:errcheck // repeats what Copy returned
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return "", errors.Join(err, os.Remove(out.Name()))
	}
	return out.Name(), nil
}

func (a *archive) list(ctx context.Context) error {
	f, err := openRegular(a.file)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read from
	t := tar.NewReader(f)
	for n := 0; ; n++ {
		h, err := t.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Errorf("%w: the tar stops after %d entries", ErrTruncated, n)
		case err != nil:
			return fmt.Errorf("%w tar after %d entries: %w", ErrFormat, n, err)
		case n >= maxArchiveEntries:
			return fmt.Errorf("%w: more than %d entries", ErrTooLarge, maxArchiveEntries)
		case ctx.Err() != nil:
			return ctx.Err()
		}
		name := path.Clean(strings.TrimPrefix(h.Name, "/"))
		delete(a.entries, name)
		delete(a.links, name)
		switch h.Typeflag {
		case tar.TypeReg:
			// The reader takes no byte more than it needs, so the file
			// stands where the content begins.
			at, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			a.entries[name] = fileBlob{a.file, at, h.Size}
		case tar.TypeLink:
			a.links[name] = path.Clean(strings.TrimPrefix(h.Linkname, "/"))
		case tar.TypeSymlink:
			a.links[name] = path.Join(path.Dir(name), h.Linkname)
		}
	}
}

// blob follows links within the archive: docker save writes a layer that two
// images share once.
func (a *archive) blob(name string) (blob, error) {
	at := path.Clean(name)
	for range maxArchiveLinks {
		if b, ok := a.entries[at]; ok {
			return b, nil
		}
		to, ok := a.links[at]
		if !ok {
			break
		}
		at = to
	}
	return nil, fmt.Errorf("%w: the archive has no file %q", ErrNotFound, name)
}

func (a *archive) close() error {
	if a.remove == "" {
		return nil
	}
	err := os.Remove(a.remove)
	a.remove = ""
	return err
}

func readHead(file string) ([]byte, error) {
	f, err := openRegular(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	head := make([]byte, blockSize)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	return head[:n], nil
}
