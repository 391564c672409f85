package shift

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell/holder"
	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/tree"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// most bounds the mappings of a repository's containers. A cell has one, or one
// for each kind of container; every mount costs a connection and memory.
const most = 16

// ErrTooMany reports a mapping that there is no room for.
var ErrTooMany = errors.New("too many different mappings of ids")

// Options describe the mounts of a repository.
type Options struct {
	// Dir is a directory of these mounts' own, made if it is not there.
	Dir string
	// Name is the repository's, shown as the source in mount tables.
	Name string
	View tree.View
	// Contents bounds those kept open, see tree.Options; 0 is its default.
	Contents int
	// Holder keeps the mounts when this process ends; nil without.
	Holder *holder.Client
	// Tag is what the holder knows the view's nodes by: a mount with another
	// tag is not gone on with.
	Tag string
	// NoResend is fusefs's.
	NoResend bool
	Log      *slog.Logger
}

// Mounts are those of one repository, one for each mapping. All methods may be
// called concurrently.
type Mounts struct {
	o      Options
	ctx    context.Context // done when they are to end
	end    context.CancelFunc
	serves sync.WaitGroup

	mu     sync.Mutex
	byKey  map[string]*mount
	counts fusefs.Stats // of mounts that have ended
}

type mount struct {
	held string // the holder's key, empty without
	fs   *tree.FS
	conn *fusefs.Conn
}

// New returns no mounts yet. The caller closes them.
func New(o Options) (*Mounts, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("mounts with translated ids: %w", err)
	}
	o.Dir = dir
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	m := &Mounts{o: o, byKey: map[string]*mount{}}
	m.ctx, m.end = context.WithCancel(context.Background())
	return m, nil
}

// Resume goes on with what the holder kept of an earlier process, whose kernel
// may remember the nodes roots, and takes away what else one left. It is called
// once, before Get, when the view finds all that containers stand on.
func (s *Mounts) Resume(ctx context.Context, roots []view.Node) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.adopt(ctx, roots); err != nil {
		return fmt.Errorf("mounts with translated ids of an earlier process: %w", err)
	}
	if err := sweep(s.o.Dir, s.byKey); err != nil {
		return fmt.Errorf("mounts with translated ids of an earlier process: %w", err)
	}
	return nil
}

// sweep detaches what is mounted in dir, but for those that are known. Containers
// that stand on it have lost its process, and keep it until they go.
func sweep(dir string, known map[string]*mount) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if known[e.Name()] != nil {
			continue
		}
		path := filepath.Join(dir, e.Name())
		for err = nil; err == nil; {
			err = unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
		if !errors.Is(err, unix.EINVAL) { // it is no mount any more
			return fmt.Errorf("unmount %s: %w", path, err)
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// Get returns the directory where the repository is mounted for the mapping m,
// which must be valid and not zero. It stays mounted until Close.
func (s *Mounts) Get(ctx context.Context, m overlay.Mapping) (string, error) {
	k := key(m)
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.byKey[k]; ok {
		return at.conn.Mountpoint(), nil
	}
	if err := s.ctx.Err(); err != nil {
		return "", fmt.Errorf("mount %s with translated ids: %w", s.o.Name, err)
	}
	if len(s.byKey) >= most {
		return "", fmt.Errorf("%w: %s is mounted for %d; use the same uid_maps and gid_maps for all containers, and restart rootstock-cell, and its holder if it has one, to forget others",
			ErrTooMany, s.o.Name, most)
	}
	dir := filepath.Join(s.o.Dir, k)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("mount %s with translated ids: %w", s.o.Name, err)
	}
	at := &mount{fs: tree.New(NewView(s.o.View, m), tree.Options{OpenContents: s.o.Contents})}
	if err := s.connect(ctx, at, m, dir); err != nil {
		return "", errors.Join(fmt.Errorf("mount %s with translated ids: %w", s.o.Name, err), at.fs.Close())
	}
	s.start(k, at)
	return at.conn.Mountpoint(), nil
}

// start is called with mu held.
func (s *Mounts) start(k string, at *mount) {
	s.byKey[k] = at
	s.serves.Go(func() { s.serve(k, at) })
}

// serve answers a mount until it ends. If somebody took it away, the next
// container gets another.
func (s *Mounts) serve(k string, at *mount) {
	err := at.conn.Serve(s.ctx)
	s.mu.Lock()
	delete(s.byKey, k)
	s.counts = s.counts.Add(at.conn.Stats())
	s.mu.Unlock()
	if at.held != "" && s.ctx.Err() == nil {
		err = errors.Join(err, s.o.Holder.Drop(context.Background(), at.held))
	}
	if err = errors.Join(err, at.fs.Close()); err != nil {
		s.o.Log.Warn("a mount with translated ids did not end cleanly", "repository", s.o.Name, "error", err)
	}
}

// ShowRoot has all mounts show the view's newest root.
func (s *Mounts) ShowRoot(ctx context.Context) error {
	s.mu.Lock()
	live := make([]*mount, 0, len(s.byKey))
	for _, at := range s.byKey {
		live = append(live, at)
	}
	s.mu.Unlock()
	var failed []error
	for _, at := range live {
		_, err := at.fs.ShowRoot(ctx, at.conn)
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// Stats returns how many mounts there are, and what they and those before them
// were asked.
func (s *Mounts) Stats() (mounts int, counts fusefs.Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts = s.counts
	for _, at := range s.byKey {
		counts = counts.Add(at.conn.Stats())
	}
	return len(s.byKey), counts
}

// Close unmounts and waits until nobody stands on the mounts any more, or leaves
// them to the holder. It may be called again.
func (s *Mounts) Close() {
	s.mu.Lock() // no mount begins after this
	s.end()
	s.mu.Unlock()
	s.serves.Wait()
}
