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
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/tree"
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
	// Name is the source shown in mount tables.
	Name string
	View tree.View
	// Contents bounds those kept open, see tree.Options; 0 is its default.
	Contents int
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
	fs   *tree.FS
	conn *fusefs.Conn
}

// New takes away what an earlier process left in o.Dir and returns no mounts
// yet. The caller closes them.
func New(o Options) (*Mounts, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("mounts with translated ids: %w", err)
	}
	o.Dir = dir
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := sweep(o.Dir); err != nil {
		return nil, fmt.Errorf("mounts with translated ids of an earlier process: %w", err)
	}
	m := &Mounts{o: o, byKey: map[string]*mount{}}
	m.ctx, m.end = context.WithCancel(context.Background())
	return m, nil
}

// sweep detaches what is mounted in dir. Containers that stand on it have lost
// its process, and keep it until they go.
func sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
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
		return "", fmt.Errorf("%w: %s is mounted for %d; use the same uid_maps and gid_maps for all containers, and restart rootstock-cell to forget others",
			ErrTooMany, s.o.Name, most)
	}
	dir := filepath.Join(s.o.Dir, k)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("mount %s with translated ids: %w", s.o.Name, err)
	}
	at := &mount{fs: tree.New(NewView(s.o.View, m), tree.Options{OpenContents: s.o.Contents})}
	var err error
	at.conn, err = fusefs.Mount(ctx, at.fs, fusefs.Options{Mountpoint: dir, FSName: s.o.Name, Log: s.o.Log})
	if err != nil {
		return "", errors.Join(fmt.Errorf("mount %s with translated ids: %w", s.o.Name, err), at.fs.Close())
	}
	s.byKey[k] = at
	s.serves.Go(func() { s.serve(k, at) })
	return at.conn.Mountpoint(), nil
}

// serve answers a mount until it ends. If somebody took it away, the next
// container gets another.
func (s *Mounts) serve(k string, at *mount) {
	err := at.conn.Serve(s.ctx)
	s.mu.Lock()
	delete(s.byKey, k)
	s.counts = s.counts.Add(at.conn.Stats())
	s.mu.Unlock()
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

// Close unmounts and waits until nobody stands on the mounts any more, but not
// longer than linger if that is not 0. Those who do lose them when the process
// ends. It may be called again.
func (s *Mounts) Close(linger time.Duration) {
	s.mu.Lock() // no mount begins after this
	s.end()
	s.mu.Unlock()
	ended := make(chan struct{})
	go func() { s.serves.Wait(); close(ended) }()
	var timeout <-chan time.Time
	if linger > 0 {
		timeout = time.After(linger)
	}
	select {
	case <-ended:
	case <-timeout:
		s.o.Log.Warn("containers stand on mounts with translated ids, which end now", "repository", s.o.Name)
	}
}
