package droplet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rootstock-cf/rootstock/inventory"
)

// maxDepth bounds directories in each other.
const maxDepth = 128

// Pace is called before bytes are read, and after some directory entries with 0;
// it may wait. Its error ends the reading.
type Pace func(ctx context.Context, bytes int64) error

// Given is what a container was given: the files below a directory that are not
// younger than the container.
type Given struct {
	root  *os.Root
	files []given
	// Digest names the listing, by path, mode, size and time: containers of
	// one droplet have the same, whatever they wrote since.
	Digest string
	gaps   []string
}

type given struct {
	path string
	mode uint32
	size int64
}

// List lists what lies below root and was last changed before a time, without
// reading any file. The caller closes root after the last use of what List
// returns. The directory may belong to a container that runs: nothing outside of
// root is looked at whatever it does.
func List(ctx context.Context, root *os.Root, before time.Time, pace Pace) (*Given, error) {
	g := &Given{root: root}
	l := lister{g: g, before: before, pace: pace}
	if err := l.dir(ctx, ".", 0); err != nil {
		return nil, fmt.Errorf("list a container's files: %w", err)
	}
	slices.Sort(l.lines)
	sum := sha256.New()
	for _, line := range l.lines {
		io.WriteString(sum, line) //nolint:errcheck // a hash takes all
	}
	g.Digest = FilesPrefix + hex.EncodeToString(sum.Sum(nil))
	slices.SortFunc(g.files, func(a, b given) int { return strings.Compare(a.path, b.path) })
	return g, nil
}

// Empty reports whether the container was given nothing.
func (g *Given) Empty() bool { return len(g.files) == 0 }

type lister struct {
	g      *Given
	before time.Time
	pace   Pace
	lines  []string
	count  int
}

func (l *lister) dir(ctx context.Context, name string, depth int) error {
	if depth > maxDepth {
		l.g.gaps = append(l.g.gaps, name)
		return nil
	}
	d, err := l.g.root.Open(name)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // read only
	for {
		if err := l.pace(ctx, 0); err != nil {
			return err
		}
		entries, err := d.ReadDir(256)
		for _, e := range entries {
			if l.count++; l.count > maxEntries {
				return fmt.Errorf("%w: more than %d entries", inventory.ErrInvalid, maxEntries)
			}
			if err := l.entry(ctx, name, e, depth); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || gone(err) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (l *lister) entry(ctx context.Context, dir string, e fs.DirEntry, depth int) error {
	name := e.Name()
	if dir != "." {
		name = dir + "/" + name
	}
	if e.IsDir() {
		return l.dir(ctx, name, depth+1)
	}
	if !e.Type().IsRegular() || len(name) > maxName {
		return nil
	}
	info, err := l.g.root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() || !info.ModTime().Before(l.before) {
		return nil //nolint:nilerr // it went away, or is none of the droplet's
	}
	f := given{name, uint32(info.Mode().Perm()) | modeRegular, info.Size()}
	l.g.files = append(l.g.files, f)
	l.lines = append(l.lines, fmt.Sprintf("%q %o %d %d\n", name, f.mode, f.size, info.ModTime().Unix()))
	return nil
}

// gone are the errors of what a running container takes away or puts a link in
// place of.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP)
}

// Read reads the files that may name packages.
func (g *Given) Read(ctx context.Context, pace Pace) (inventory.Inventory, error) {
	c := newGatherer()
	for _, name := range g.gaps {
		c.gap(name, "directories are too deep")
	}
	for _, f := range g.files {
		if err := g.read(ctx, c, f, pace); err != nil {
			return inventory.Inventory{}, fmt.Errorf("read a container's files: %w", err)
		}
	}
	return c.finish(g.Digest), nil
}

func (g *Given) read(ctx context.Context, c *gatherer, f given, pace Pace) error {
	// A pipe in place of the file must not keep us waiting.
	in, err := g.root.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		c.gap(f.path, "it went away")
		return nil //nolint:nilerr // said as a gap
	}
	defer in.Close() //nolint:errcheck // read only
	info, err := in.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() != f.size {
		c.gap(f.path, "it changed")
		return nil //nolint:nilerr // said as a gap
	}
	return c.file(f.path, f.mode, f.size, &paced{ctx, io.LimitReader(in, f.size), pace})
}

// paced asks before each read.
type paced struct {
	ctx  context.Context
	r    io.Reader
	pace Pace
}

func (p *paced) Read(b []byte) (int, error) {
	b = b[:min(len(b), 64<<10)]
	if err := p.pace(p.ctx, int64(len(b))); err != nil {
		return 0, err
	}
	return p.r.Read(b)
}
