package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
)

// OpenRootfs opens a root file system tarball: plain, or compressed with gzip
// (of one or several members), zstd or xz, as its first bytes say. The file is
// read when its one layer is; until then Source.Digest and the layer's DiffID
// are empty. A second reading must find the same bytes or fails.
func OpenRootfs(ctx context.Context, path string, o Options) (*Source, error) {
	o = o.withDefaults()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f := fileBlob{path: path, size: -1}
	if err := f.check(); err != nil {
		return nil, err
	}
	s := &Source{Kind: KindRootfs}
	l := &layer{what: "rootfs " + path, reading: newReading(f, o, &budget{max: o.MaxBytes})}
	l.want.size, l.want.allowXZ = -1, true
	l.learned = func(g got) { s.Digest = g.digest }
	s.Layers = []Layer{l}
	return s, nil
}

func newReading(b blob, o Options, total *budget) reading {
	return reading{blob: b, budget: total, maxRatio: o.MaxRatio, counted: new(atomic.Int64)}
}

// layer is a blob with what is known of it. What one reading finds out, the
// next one must find again.
type layer struct {
	what string // for messages
	reading

	mu      sync.Mutex // guards want's fields once the layer is in use
	learned func(got)  // called once, when the first reading has ended well
}

// DiffID implements [Layer].
func (l *layer) DiffID() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.want.diffID
}

// String names the layer in messages.
func (l *layer) String() string { return l.what }

// Open implements [Layer].
func (l *layer) Open(ctx context.Context) (io.ReadCloser, error) {
	l.mu.Lock()
	r := l.reading
	l.mu.Unlock()
	s, err := r.open(ctx, l.seen)
	if err != nil {
		return nil, l.wrap(err)
	}
	s.what = l.what
	return s, nil
}

// wrap names the layer, unless the error begins with its name already.
func (l *layer) wrap(err error) error {
	if strings.HasPrefix(err.Error(), l.what) {
		return err
	}
	return fmt.Errorf("%s: %w", l.what, err)
}

func (l *layer) seen(g got) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.want.digest == "" {
		l.want.digest, l.want.diffID = g.digest, g.diffID
		if l.learned != nil {
			l.learned(g)
		}
	}
	if l.want.digest != g.digest || l.want.diffID != g.diffID {
		return fmt.Errorf("%w: it changed while it was being read", ErrDigest)
	}
	return nil
}

// fileBlob is a file, or size bytes of it from offset.
type fileBlob struct {
	path   string
	offset int64
	size   int64 // -1 for all from offset
}

func (f fileBlob) open(context.Context) (io.ReadCloser, error) {
	file, err := openRegular(f.path)
	if err != nil {
		return nil, err
	}
	if f.size < 0 && f.offset == 0 {
		return file, nil
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(file, f.offset, f.size), file}, nil
}

// check refuses at once what no reading can turn into a tar.
func (f fileBlob) check() error {
	file, err := openRegular(f.path)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // only read from
	var head bytes.Buffer
	if _, err := io.CopyN(&head, file, blockSize); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if _, err := sniff(head.Bytes()); err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	return nil
}

// openRegular opens a file for reading and refuses directories and pipes, which
// could not be read twice.
func openRegular(path string) (*os.File, error) {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: file %s", ErrNotFound, path)
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrUnsupported, path)
	}
	return os.Open(path) // #nosec G304 -- the operator names it
}
