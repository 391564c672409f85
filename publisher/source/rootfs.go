package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rootstock-cf/rootstock/publisher/seen"
)

// OpenRootfs opens a root file system tarball: plain, or compressed with gzip
// (of one or several members), zstd or xz, as its first bytes say. The file is
// read when its one layer is; until then Source.Digest and the layer's DiffID
// are empty, unless Options.Seen remembers the file as it lies there: then they
// are known at once. A second reading must find the same bytes or fails.
func OpenRootfs(ctx context.Context, path string, o Options) (*Source, error) {
	o = o.withDefaults()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f := fileBlob{path: path, size: -1}
	s := &Source{Kind: KindRootfs, Spelled: filepath.Base(path)}
	l := &layer{what: "rootfs " + path, reading: newReading(f, o, &budget{max: o.MaxBytes})}
	l.want.size, l.want.allowXZ = -1, true
	l.learned = func(g got) { s.Digest = g.digest }
	if o.Seen != nil {
		l.remembered(f, s, o.Seen)
	}
	if s.Digest == "" {
		if err := f.check(); err != nil {
			return nil, err
		}
	}
	s.Layers = []Layer{l}
	return s, nil
}

// remembered gives the layer and its source the digests the file had when it
// was last read, if nothing has touched it since, and keeps them otherwise.
func (l *layer) remembered(f fileBlob, s *Source, d *seen.Dir) {
	if i, err := os.Stat(f.path); err == nil {
		if state, ok := seen.StateOf(f.path, i); ok {
			if was, ok := d.File(state); ok {
				l.recalled, s.Digest = was, was.Digest
			}
		}
	}
	w := &watchedFile{fileBlob: f}
	l.blob = w
	learned := l.learned
	l.began = d.Begin
	l.learned = func(g got) {
		learned(g)
		if w.steady {
			d.KeepFile(w.state, l.begin, seen.Digests{Digest: g.digest, DiffID: g.diffID})
		}
	}
}

// watchedFile is a file that tells whether its state stayed while it was read.
type watchedFile struct {
	fileBlob
	state  seen.State
	steady bool // set when a stream is closed, which is before its reader learns of the end
}

func (w *watchedFile) open(context.Context) (io.ReadCloser, error) {
	file, err := openRegular(w.path)
	if err != nil {
		return nil, err
	}
	w.steady = false
	before, ok := w.now(file)
	return &watchedStream{File: file, owner: w, before: before, ok: ok}, nil
}

func (w *watchedFile) now(file *os.File) (seen.State, bool) {
	i, err := file.Stat()
	if err != nil {
		return seen.State{}, false
	}
	return seen.StateOf(w.path, i)
}

type watchedStream struct {
	*os.File
	owner  *watchedFile
	before seen.State
	ok     bool
}

func (s *watchedStream) Close() error {
	after, ok := s.owner.now(s.File)
	s.owner.state, s.owner.steady = after, ok && s.ok && after == s.before
	return s.File.Close()
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
	opened  bool       // since readings are counted
	began   func() time.Time
	begin   time.Time // of the reading

	recalled seen.Digests // what Options.Seen says of the file; never changes
}

// DiffID implements [Layer].
func (l *layer) DiffID() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.want.diffID == "" {
		return l.recalled.DiffID
	}
	return l.want.diffID
}

// String names the layer in messages.
func (l *layer) String() string { return l.what }

// Open implements [Layer].
func (l *layer) Open(ctx context.Context) (io.ReadCloser, error) {
	l.mu.Lock()
	if l.opened && l.progress != nil {
		l.progress.expect(l.size()) // once more
	}
	l.opened = l.progress != nil
	r := l.reading
	if l.began != nil {
		l.begin = l.began()
	}
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
	if was := l.recalled; was != (seen.Digests{}) && was != (seen.Digests{Digest: g.digest, DiffID: g.diffID}) {
		return fmt.Errorf("%w: it is not what was published from here last, although its size, inode and times are; publish it with --verify-source", ErrDigest)
	}
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
