package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
)

// Listen makes the daemon's socket, mode 0600, in a directory it creates if
// need be. A socket that nobody answers at, left by a daemon that died, is
// replaced; one that somebody answers at, or any other file, is an error.
// Closing the listener removes the socket.
func Listen(path string) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	switch fi, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("control socket: %w", err)
	case fi.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("control socket %s: there is a file of that name that is no socket; remove it", path)
	default:
		if conn, err := net.Dial("unix", path); err == nil { //nolint:noctx // the kernel answers at once
			conn.Close() //nolint:errcheck // nothing was said
			return nil, fmt.Errorf("control socket %s: another daemon answers there; stop it first", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("control socket: %w", err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	// Until here the umask decides who may connect; CheckPeer refuses
	// strangers in any case.
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close() //nolint:errcheck // the first error counts
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}
