package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rootstock-cf/rootstock/cell/holder"
	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/fusefs/objects"
)

// store is the objects mount. It is made again when somebody unmounts it; the
// connection before serves on for as long as overlays stand on it.
type store struct {
	o      Options
	dir    string
	source objects.Source
	failed chan error // the mount could not be made again

	mu      sync.Mutex
	serving context.Context // nil before serve
	conns   []*connection   // the last one is the mount's
	ended   fusefs.Stats    // of connections that are no more
}

type connection struct {
	key  string // with the holder, if there is one
	tag  string
	fs   *objects.FS
	conn *fusefs.Conn
	done chan struct{} // closed when it has ended
}

// linger is how long the connection may take to end once it is unmounted. It
// ends at once unless overlays stand on it.
const linger = 500 * time.Millisecond

func openStore(ctx context.Context, o Options, source objects.Source) (*store, error) {
	s := &store{o: o, dir: filepath.Join(o.Dir, "objects"), source: source, failed: make(chan error, 1)}
	mounted, err := s.adopt(ctx)
	if err != nil || mounted {
		return s, err
	}
	// One that is left has lost its process: the cache is locked by us, and the
	// holder does not have it.
	if err := detachAll(ctx, s.dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("objects mount: %w", err)
	}
	return s, s.ensure(ctx)
}

// ensure mounts unless that is done.
func (s *store) ensure(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if isMountpoint(s.dir) {
		return nil
	}
	if len(s.conns) > 0 {
		s.o.Log.Warn("somebody unmounted the objects mount, making it again", "mountpoint", s.dir)
	}
	c := &connection{done: make(chan struct{})}
	if s.o.Holder != nil {
		c.tag = holder.NewTag()
	}
	var err error
	if c.fs, err = objects.New(s.source, objects.Options{Numbers: s.numbers(c.tag)}); err != nil {
		return err
	}
	if err := s.connect(ctx, c); err != nil {
		return errors.Join(fmt.Errorf("objects mount: %w", err), c.fs.Close())
	}
	s.conns = append(s.conns, c)
	if s.serving != nil {
		go s.answer(s.serving, c)
	}
	return nil
}

// serve answers until ctx is done.
func (s *store) serve(ctx context.Context) error {
	s.mu.Lock()
	s.serving = ctx
	for _, c := range s.conns {
		go s.answer(ctx, c)
	}
	s.mu.Unlock()
	select {
	case err := <-s.failed:
		return err
	case <-ctx.Done():
		return s.end()
	}
}

// answer serves one connection to its end.
func (s *store) answer(ctx context.Context, c *connection) {
	serve := context.WithoutCancel(ctx)
	if s.o.Holder != nil {
		serve = ctx // which leaves it to the holder
	}
	err := c.conn.Serve(serve)
	if err = errors.Join(err, c.fs.Close()); err != nil {
		s.o.Log.Warn("connection of the objects mount ended", "error", err)
	}
	s.retire(c)
	close(c.done)
	if ctx.Err() != nil {
		return
	}
	s.drop(ctx, c)
	if err := s.ensure(ctx); err != nil && ctx.Err() == nil {
		select {
		case s.failed <- err:
		default:
		}
	}
}

// retire forgets c but for its counts.
func (s *store) retire(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := c.conn.Stats()
	s.ended.Requests += n.Requests
	s.ended.Failures += n.Failures
	for i := range s.conns {
		if s.conns[i] == c {
			s.conns = append(s.conns[:i:i], s.conns[i+1:]...)
			return
		}
	}
}

func (s *store) live() []*connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*connection(nil), s.conns...)
}

// end unmounts. Overlays that stand on the mount keep its connection alive, and
// would keep this process: they are left with what is cached. The kernel ends
// the connection when the process is gone.
func (s *store) end() error {
	live := s.live()
	if s.o.Holder != nil {
		for _, c := range live {
			<-c.done
		}
		return nil
	}
	if err := s.unmount(live); err != nil {
		return err
	}
	timeout := time.After(linger)
	for _, c := range live {
		select {
		case <-c.done:
		case <-timeout:
			s.o.Log.Info("containers stand on the objects mount: from now on they can open only what is cached")
			return nil
		}
	}
	return nil
}

// unmount takes away the newest of the connections' mounts; the others are
// mounted nowhere.
func (s *store) unmount(live []*connection) error {
	if len(live) == 0 {
		return nil
	}
	return live[len(live)-1].conn.Unmount(context.Background())
}

// close makes connections that are still there answer EIO.
func (s *store) close() error {
	live := s.live()
	var errs []error
	if s.o.Holder == nil {
		errs = append(errs, s.unmount(live))
	}
	for _, c := range live {
		if s.o.Holder != nil {
			errs = append(errs, c.conn.End(context.Background()))
		}
		errs = append(errs, c.fs.Close())
	}
	return errors.Join(errs...)
}

func (s *store) stats() (requests, failures uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests, failures = s.ended.Requests, s.ended.Failures
	for _, c := range s.conns {
		n := c.conn.Stats()
		requests, failures = requests+n.Requests, failures+n.Failures
	}
	return requests, failures
}
