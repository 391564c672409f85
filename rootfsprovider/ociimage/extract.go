package ociimage

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of a layer, besides the container's disk limit.
const (
	maxEntries = 2_000_000
	maxBytes   = 64 << 30 // uncompressed
	maxName    = 4096
	maxPadding = 1 << 20 // bytes behind the archive
	maxDepth   = 64      // of the directory that a layer goes to
)

var (
	// ErrDigest reports a layer whose bytes are not what its digest says.
	ErrDigest = errors.New("digest mismatch")
	// ErrEntry reports an entry that does not belong in a droplet.
	ErrEntry = errors.New("refused entry")
)

// Owner translates a user and group of the container to the host's; ok is false
// for one that the container does not have.
type Owner func(uid, gid uint32) (hostUID, hostGID uint32, ok bool)

// Extract unpacks the layer that r yields, a tar or a gzipped one, into its
// directory of the container whose root is mounted at root. What it makes
// belongs to the container's users.
//
// The container's tree and the layer are both hostile. The directory is
// resolved with the container's root as "/", and no entry leaves it. The
// digest is known to be right only after everything has been unpacked: on an
// error the caller throws the container away.
func (l *Layer) Extract(ctx context.Context, r io.Reader, root string, owner Owner) error {
	sum := sha256.New()
	counted := &counter{ctx: ctx, r: io.TeeReader(r, sum)}
	err := l.extract(counted, root, owner)
	if err == nil {
		// What follows the archive belongs to the digest as well.
		err = drain(counted)
	}
	if err != nil {
		return fmt.Errorf("layer %s: %w", l.Digest, err)
	}
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); got != l.Digest {
		return fmt.Errorf("layer %s: %w: the %d bytes that came have %s", l.Digest, ErrDigest, counted.n, got)
	}
	return nil
}

// counter ends a stream with its context.
type counter struct {
	ctx context.Context
	r   io.Reader
	n   int64
}

func (c *counter) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

func (l *Layer) extract(r io.Reader, root string, owner Owner) error {
	b := bufio.NewReaderSize(r, 64<<10)
	plain := io.Reader(b)
	if magic, err := b.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(b)
		if err != nil {
			return err
		}
		plain = z
	}
	dir, err := openDir(root, l.Dir, owner)
	if err != nil {
		return fmt.Errorf("directory %.200q: %w", l.Dir, err)
	}
	defer dir.Close() //nolint:errcheck // every file has been closed
	u := unpacker{dir: dir, owner: owner, times: map[string]time.Time{}}
	limited := &io.LimitedReader{R: plain, N: maxBytes}
	t := tar.NewReader(limited)
	for range maxEntries {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			if err := drain(limited); err != nil { // a gzip stream's own checksum
				return err
			}
			return u.finish()
		}
		if err != nil {
			return err
		}
		if err := u.entry(h, t); err != nil {
			return fmt.Errorf("%.200q: %w", h.Name, err)
		}
	}
	return fmt.Errorf("%w: more than %d entries", ErrEntry, maxEntries)
}

// drain reads what follows an archive: padding, a checksum, no more.
func drain(r io.Reader) error {
	n, err := io.Copy(io.Discard, io.LimitReader(r, maxPadding+1))
	if err == nil && n > maxPadding {
		err = fmt.Errorf("%w: more than %d bytes follow the archive", ErrEntry, maxPadding)
	}
	return err
}

// openDir opens dir in the container, making what is missing of it. Links in
// it lead to where they would lead inside.
func openDir(root, dir string, owner Owner) (*os.Root, error) {
	at, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	fds := []int{at}
	defer func() {
		for _, fd := range fds {
			unix.Close(fd) //nolint:errcheck // a place only
		}
	}()
	parts := strings.FieldsFunc(path.Clean(dir), func(r rune) bool { return r == '/' })
	if len(parts) > maxDepth {
		return nil, fmt.Errorf("%w: deeper than %d", ErrEntry, maxDepth)
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for i, part := range parts {
		sofar := strings.Join(parts[:i+1], "/")
		next, err := unix.Openat2(fds[0], sofar, &how)
		if errors.Is(err, unix.ENOENT) {
			if err := makeDir(at, part, owner); err != nil {
				return nil, err
			}
			next, err = unix.Openat2(fds[0], sofar, &how)
		}
		if err != nil {
			return nil, err
		}
		fds = append(fds, next)
		at = next
	}
	return os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", at))
}

// makeDir makes a directory of the container's root user.
func makeDir(at int, name string, owner Owner) error {
	if err := unix.Mkdirat(at, name, 0o755); err != nil {
		return err
	}
	if err := unix.Fchmodat(at, name, 0o755, 0); err != nil { // whatever the umask is
		return err
	}
	if uid, gid, ok := owner(0, 0); ok {
		return unix.Fchownat(at, name, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW)
	}
	return nil
}

// unpacker puts entries into dir, which os.Root keeps them in.
type unpacker struct {
	dir   *os.Root
	owner Owner
	times map[string]time.Time // of directories, set when nothing is made in them any more
}

func (u *unpacker) finish() error {
	for name, when := range u.times {
		if err := u.dir.Chtimes(name, when, when); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

const whiteout = ".wh."

func (u *unpacker) entry(h *tar.Header, r io.Reader) error {
	name := path.Clean("/" + h.Name)[1:]
	if strings.Contains("/"+h.Name+"/", "/../") || len(h.Name) > maxName || strings.IndexByte(h.Name, 0) >= 0 {
		return fmt.Errorf("%w: not a path inside the layer", ErrEntry)
	}
	if name == "" {
		return nil // the base directory itself is the stack's
	}
	if base := path.Base(name); strings.HasPrefix(base, whiteout) {
		if strings.HasPrefix(base, whiteout+whiteout) || base == whiteout {
			return fmt.Errorf("%w: opaque directories are none of a droplet's", ErrEntry)
		}
		return u.dir.RemoveAll(path.Join(path.Dir(name), base[len(whiteout):]))
	}
	if err := u.parents(path.Dir(name)); err != nil {
		return err
	}
	have, err := u.dir.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case !have.IsDir() || h.Typeflag != tar.TypeDir:
		if err := u.dir.RemoveAll(name); err != nil {
			return err
		}
		have = nil
	}
	uid, gid, ok := u.own(h)
	if !ok {
		return fmt.Errorf("%w: its owner %d:%d is not in the container's user namespace; extend uid_maps and gid_maps", ErrEntry, h.Uid, h.Gid)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if have == nil {
			if err := u.dir.Mkdir(name, 0o700); err != nil {
				return err
			}
		}
		u.times[name] = h.ModTime
		if err := u.dir.Lchown(name, uid, gid); err != nil {
			return err
		}
		return u.dir.Chmod(name, h.FileInfo().Mode())
	case tar.TypeReg:
		return u.file(h, name, r, uid, gid)
	case tar.TypeSymlink:
		if err := u.dir.Symlink(h.Linkname, name); err != nil {
			return err
		}
		return u.dir.Lchown(name, uid, gid)
	case tar.TypeLink:
		target := path.Clean("/" + h.Linkname)[1:]
		return u.dir.Link(target, name)
	case tar.TypeXGlobalHeader:
		return nil
	}
	return fmt.Errorf("%w: type %q is none of a droplet's", ErrEntry, h.Typeflag)
}

func (u *unpacker) own(h *tar.Header) (uid, gid int, ok bool) {
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) > 1<<32-2 || int64(h.Gid) > 1<<32-2 {
		return 0, 0, false
	}
	a, b, ok := u.owner(uint32(h.Uid), uint32(h.Gid)) // #nosec G115 -- looked at before
	return int(a), int(b), ok
}

// parents makes directories that no entry names; they are root's.
func (u *unpacker) parents(dir string) error {
	if dir == "." {
		return nil
	}
	if st, err := u.dir.Stat(dir); err == nil {
		if !st.IsDir() {
			return fmt.Errorf("%w: %.200q above it is no directory", ErrEntry, dir)
		}
		return nil
	}
	if err := u.parents(path.Dir(dir)); err != nil {
		return err
	}
	if err := errors.Join(u.dir.Mkdir(dir, 0o755), u.dir.Chmod(dir, 0o755)); err != nil {
		return err
	}
	uid, gid, ok := u.owner(0, 0)
	if !ok {
		return nil
	}
	return u.dir.Lchown(dir, int(uid), int(gid))
}

func (u *unpacker) file(h *tar.Header, name string, r io.Reader, uid, gid int) (err error) {
	f, err := u.dir.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	// Before the mode, for a change of owner takes set-user-id away.
	if err := f.Chown(uid, gid); err != nil {
		return err
	}
	for key, value := range h.PAXRecords {
		attr, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok || !strings.HasPrefix(attr, "user.") {
			continue // capabilities are the stack's to give, not a droplet's
		}
		if err := unix.Fsetxattr(int(f.Fd()), attr, []byte(value), 0); err != nil {
			return fmt.Errorf("attribute %.100q: %w", attr, err)
		}
	}
	if err := f.Chmod(h.FileInfo().Mode()); err != nil {
		return err
	}
	return u.dir.Chtimes(name, h.ModTime, h.ModTime)
}
