package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/objects"
)

// store is the objects mount. It is made again when somebody unmounts it.
type store struct {
	o      Options
	dir    string
	source objects.Source

	mu    sync.Mutex
	fs    *objects.FS
	conn  *fusefs.Conn
	ended fusefs.Stats // of connections before this one
}

// linger is how long the connection may take to end once it is unmounted. It
// ends at once unless overlays stand on it.
const linger = 500 * time.Millisecond

func openStore(ctx context.Context, o Options, source objects.Source) (*store, error) {
	s := &store{o: o, dir: filepath.Join(o.Dir, "objects"), source: source}
	// One that is left has lost its process: the cache is locked by us.
	if err := detachAll(ctx, s.dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("objects mount: %w", err)
	}
	return s, s.mount(ctx)
}

func (s *store) mount(ctx context.Context) error {
	fs, err := objects.New(s.source, objects.Options{Numbers: filepath.Join(s.o.Dir, "objects.numbers")})
	if err != nil {
		return err
	}
	conn, err := fusefs.Mount(ctx, fs, fusefs.Options{
		Mountpoint: s.dir, FSName: "rootstock-objects", NoXAttrs: true, Log: s.o.Log,
	})
	if err != nil {
		return errors.Join(fmt.Errorf("objects mount: %w", err), fs.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fs, s.conn = fs, conn
	return nil
}

func (s *store) current() (*objects.FS, *fusefs.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fs, s.conn
}

// serve answers until ctx is done.
func (s *store) serve(ctx context.Context) error {
	for {
		fs, conn := s.current()
		served := make(chan error, 1)
		go func() { served <- conn.Serve(context.WithoutCancel(ctx)) }()
		select {
		case <-ctx.Done():
			return s.end(conn, served)
		case err := <-served:
			if ctx.Err() != nil {
				return err
			}
			s.o.Log.Warn("somebody unmounted the objects mount, making it again", "mountpoint", s.dir, "error", err)
			if err := fs.Close(); err != nil {
				return fmt.Errorf("objects mount: %w", err)
			}
			s.mu.Lock()
			s.ended.Requests += conn.Stats().Requests
			s.ended.Failures += conn.Stats().Failures
			s.mu.Unlock()
			if err := s.mount(ctx); err != nil {
				return err
			}
		}
	}
}

// end unmounts. Overlays that stand on the mount keep its connection alive, and
// would keep this process: they are left with what is cached. The kernel ends
// the connection when the process is gone.
func (s *store) end(conn *fusefs.Conn, served <-chan error) error {
	if err := conn.Unmount(context.Background()); err != nil {
		return err
	}
	select {
	case err := <-served:
		return err
	case <-time.After(linger):
		s.o.Log.Info("containers stand on the objects mount: from now on they can open only what is cached")
		return nil
	}
}

// close closes the file system of the connection, which answers EIO from then
// on, should it still be there.
func (s *store) close() error {
	fs, conn := s.current()
	return errors.Join(conn.Unmount(context.Background()), fs.Close())
}

func (s *store) stats() (requests, failures uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.conn.Stats()
	return s.ended.Requests + n.Requests, s.ended.Failures + n.Failures
}
