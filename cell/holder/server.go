package holder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/fusefs"
)

// Server is the holder.
type Server struct {
	// Patience is how long a worker may wait for the one before it to end;
	// 5 s.
	Patience time.Duration
	Log      *slog.Logger

	mu    sync.Mutex
	held  map[string]*Held
	lease *lease
}

// lease is a worker that lives.
type lease struct {
	pid  int32
	gone chan struct{}
}

// Listen makes the holder's socket, mode 0600. One that nobody answers at is
// replaced.
func Listen(path string) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("holder's socket: %w", err)
	}
	addr := &net.UnixAddr{Name: path, Net: "unixpacket"}
	if conn, err := net.DialUnix("unixpacket", nil, addr); err == nil {
		conn.Close() //nolint:errcheck // nothing was said
		return nil, fmt.Errorf("holder's socket %s: another holder answers there; stop it first", path)
	}
	if fi, err := os.Lstat(path); err == nil && fi.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("holder's socket %s: there is a file of that name that is no socket; remove it", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("holder's socket: %w", err)
	}
	l, err := net.ListenUnix("unixpacket", addr)
	if err != nil {
		return nil, fmt.Errorf("holder's socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("holder's socket: %w", err), l.Close())
	}
	return l, nil
}

// Serve answers workers until ctx is done, closes l, and then unmounts
// everything: what is still in use is detached, and fails from then on unless a
// worker is left that answers it.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	s.held = map[string]*Held{}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var calls sync.WaitGroup
	stop := context.AfterFunc(ctx, func() { l.Close() }) //nolint:errcheck // it ends the loop either way
	defer stop()
	var failed error
	for {
		conn, err := l.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close() //nolint:errcheck // nothing was said
			}
			break
		}
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ECONNABORTED) {
			time.Sleep(50 * time.Millisecond) // descriptors come back when calls end
			continue
		}
		if err != nil {
			failed = fmt.Errorf("holder's socket: %w", err)
			break
		}
		calls.Go(func() {
			defer conn.Close()                                      //nolint:errcheck // all is said
			done := context.AfterFunc(ctx, func() { conn.Close() }) //nolint:errcheck // wakes who reads
			defer done()
			s.call(ctx, conn)
		})
	}
	cancel()
	calls.Wait()
	return errors.Join(failed, s.close())
}

func (s *Server) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, h := range s.held {
		errs = append(errs, h.unmount())
		h.Close()
	}
	s.held = nil
	return errors.Join(errs...)
}

func (s *Server) call(ctx context.Context, conn *net.UnixConn) {
	pid, err := peerPID(conn)
	if err != nil {
		s.Log.Warn("refused", "error", err)
		return
	}
	conn.SetDeadline(time.Now().Add(callTimeout)) //nolint:errcheck // Read would say so
	var r request
	got, err := receive(conn, &r)
	if err != nil {
		return // somebody looked whether we are here
	}
	var out *Held
	a := answer{PID: os.Getpid()}
	switch {
	case r.Version != version:
		err = fmt.Errorf("this holder speaks version %d of its protocol, not %d: restart it, too", version, r.Version)
	case r.Op == opLease:
		if err = s.leaseTo(ctx, pid, conn, &a); err == nil {
			return
		}
	default:
		out, err = s.answer(&r, pid, got)
	}
	if got != nil {
		got.Close()
	}
	if err != nil {
		a.fail(err)
	}
	if out != nil {
		defer out.Close()
		a.Mounts = []Mount{out.Mount}
	}
	if err := send(conn, &a, out); err != nil {
		s.Log.Warn("worker did not take the answer", "op", r.Op, "error", err)
	}
}

// leaseTo makes the caller the worker until it is gone.
func (s *Server) leaseTo(ctx context.Context, pid int32, conn *net.UnixConn, a *answer) error {
	me := &lease{pid: pid, gone: make(chan struct{})}
	timeout := time.After(cmp.Or(s.Patience, leaseWait))
	for {
		s.mu.Lock()
		before := s.lease
		if before == nil {
			s.lease = me
			for _, h := range s.held {
				a.Mounts = append(a.Mounts, h.now())
			}
		}
		s.mu.Unlock()
		if before == nil {
			break
		}
		select {
		case <-before.gone:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timeout:
			return fmt.Errorf("%w: process %d; stop it first", ErrBusy, before.pid)
		}
	}
	defer func() {
		s.mu.Lock()
		s.lease = nil
		s.mu.Unlock()
		close(me.gone)
	}()
	slices.SortFunc(a.Mounts, func(x, y Mount) int { return cmp.Compare(x.Key, y.Key) })
	if send(conn, a, nil) != nil {
		return nil // it is gone already
	}
	s.Log.Info("worker came", "pid", pid)
	conn.SetDeadline(time.Time{}) //nolint:errcheck // Read would say so
	conn.Read(make([]byte, 1))    //nolint:errcheck // nothing is said; it ends with the worker
	s.Log.Info("worker went; its mounts wait for the next one", "pid", pid)
	return nil
}

// answer serves what only the worker may ask. got is closed by the caller unless
// it is kept, and its FD then is -1 and a copy.
func (s *Server) answer(r *request, pid int32, got *Held) (*Held, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease == nil || s.lease.pid != pid {
		return nil, fmt.Errorf("%w: process %d is not the one with the lease", ErrBusy, pid)
	}
	h := s.held[r.Mount.Key]
	switch r.Op {
	case opOpen:
		if h != nil {
			return nil, fmt.Errorf("%s is mounted already", r.Mount.Key)
		}
		if len(s.held) == maxMounts {
			return nil, fmt.Errorf("%d mounts are held, which is the most there can be", maxMounts)
		}
		h, err := open(r.Mount)
		if err != nil {
			return nil, err
		}
		s.held[h.Key] = h
		s.Log.Info("mounted", "key", h.Key, "mountpoint", h.Mountpoint)
		return h.copy()
	case opGive:
		if got == nil || r.Mount.Key == "" || h != nil || len(s.held) == maxMounts {
			return nil, fmt.Errorf("mount %q cannot be taken over", r.Mount.Key)
		}
		kept, err := got.copy()
		if err != nil {
			return nil, err
		}
		kept.Mount = r.Mount
		s.held[kept.Key] = kept
		return nil, nil
	}
	if h == nil {
		return nil, fmt.Errorf("%w: %s", ErrNone, r.Mount.Key)
	}
	switch r.Op {
	case opTake:
		h.Mounted = h.isMounted()
		return h.copy()
	case opDrop:
		delete(s.held, h.Key)
		err := h.unmount()
		h.Close()
		s.Log.Info("unmounted", "key", h.Key, "mountpoint", h.Mountpoint)
		return nil, err
	}
	return nil, fmt.Errorf("unknown operation %q", r.Op)
}

func (h *Held) now() Mount {
	m := h.Mount
	m.Mounted = h.isMounted()
	return m
}

func (h *Held) copy() (*Held, error) {
	fd, err := unix.FcntlInt(uintptr(h.FD), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("holder: %w", err)
	}
	table, err := unix.FcntlInt(h.InFlight.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("holder: %w", err), unix.Close(fd))
	}
	return &Held{h.Mount, fd, os.NewFile(uintptr(table), "requests in flight")}, nil
}

// open mounts m, in the place of what an earlier holder may have left there.
func open(m Mount) (*Held, error) {
	if m.Key == "" {
		return nil, errors.New("a mount has to have a key")
	}
	m.Mountpoint = m.Path
	if err := clearDead(m.Mountpoint); err != nil {
		return nil, err
	}
	o := fusefs.Options{Mountpoint: m.Mountpoint, FSName: m.FSName, MaxRead: m.MaxRead}
	table, err := fusefs.NewInFlight()
	if err != nil {
		return nil, err
	}
	h := &Held{Mount: m, InFlight: table}
	if h.FD, h.Mountpoint, err = fusefs.OpenMount(o); err != nil {
		return nil, errors.Join(err, table.Close())
	}
	if h.Init, err = fusefs.Begin(h.FD, o); err == nil {
		h.Device, err = deviceAt(h.Mountpoint)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Unmount(h.Mountpoint, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH), unix.Close(h.FD), table.Close())
	}
	h.Mounted = true
	return h, nil
}

// clearDead takes away mounts of ours at path whose processes have died.
func clearDead(path string) error {
	var st unix.Statfs_t
	for errors.Is(unix.Statfs(path, &st), unix.ENOTCONN) {
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return fmt.Errorf("holder: %w", err)
		}
		if !ours(string(mounts), path) {
			return fmt.Errorf("mount at %s: a dead mount that is not ours is there; remove it with umount -l", path)
		}
		if err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH); err != nil {
			return fmt.Errorf("remove a dead mount at %s: %w", path, err)
		}
	}
	return nil
}

// ours reports whether the topmost mount at path is one of this program's.
func ours(mountinfo, path string) (is bool) {
	octal := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`)
	want := octal.Replace(filepath.Clean(path))
	for line := range strings.Lines(mountinfo) {
		before, after, _ := strings.Cut(line, " - ")
		if f := strings.Fields(before); len(f) > 4 && f[4] == want {
			is = strings.HasPrefix(after, "fuse.rootstock ")
		}
	}
	return is
}

// deviceAt returns the st_dev of what is mounted at path without asking it.
func deviceAt(path string) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC|unix.AT_SYMLINK_NOFOLLOW, 0, &st); err != nil {
		return 0, fmt.Errorf("stat mountpoint %s: %w", path, err)
	}
	return unix.Mkdev(st.Dev_major, st.Dev_minor), nil
}

func (h *Held) isMounted() bool {
	dev, err := deviceAt(h.Mountpoint)
	return err == nil && dev == h.Device
}

func (h *Held) unmount() error {
	if !h.isMounted() {
		return nil
	}
	err := unix.Unmount(h.Mountpoint, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EBUSY) {
		err = unix.Unmount(h.Mountpoint, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", h.Mountpoint, err)
	}
	return nil
}
