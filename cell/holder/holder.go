// Package holder keeps FUSE mounts over the death of the process that answers
// them. The holder is a process of its own that does nothing else: it opens the
// device, mounts, agrees on the protocol, and keeps the descriptors. The worker,
// its sibling and not its child, gets copies of them over a unix socket. When
// the worker dies the mounts stay, requests wait, and the next worker gets the
// same descriptors.
//
// What flows through it are descriptors and a few lines of JSON, never a request
// of the kernel. It shares with the worker neither locks nor memory but that of
// the requests in flight (fusefs.NewInFlight), which it keeps and never looks at.
//
// One worker at a time: it holds a connection, the lease, for as long as it
// lives; everything else is a connection for each call. A holder that was
// restarted has nothing, and gets from a worker that still lives all it lost.
package holder

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/fusefs"
)

var (
	// ErrBusy reports a holder whose mounts another worker answers.
	ErrBusy = errors.New("another worker has the holder's mounts")
	// ErrNone reports a mount that the holder does not have.
	ErrNone = errors.New("the holder has no such mount")
)

// DefaultSocket is where a holder listens unless told otherwise.
const DefaultSocket = "/run/rootstock/holder.sock"

// version is the protocol's. A worker that speaks another is refused.
const version = 1

const (
	maxMessage  = 64 << 10 // bytes
	maxMounts   = 128      // a list of them fits a message
	callTimeout = 10 * time.Second
	leaseWait   = 5 * time.Second // for a worker that is just ending
)

// Mount is a mount that is held.
type Mount struct {
	Key        string      `json:"key"`  // the worker's name for it
	Tag        string      `json:"tag"`  // of this very mount, chosen by the worker
	Path       string      `json:"path"` // the mountpoint as it was asked for
	Mountpoint string      `json:"mountpoint"`
	FSName     string      `json:"fsname"`
	MaxRead    int         `json:"max_read"` // bytes
	Init       fusefs.Init `json:"init"`
	Device     uint64      `json:"device"` // st_dev

	// Mounted tells whether it is still there. One that is not may be in use
	// all the same, below overlays.
	Mounted bool `json:"mounted"`
}

// Held is a Mount and what it takes to answer it. Whoever gets one closes both
// descriptors; fusefs.Adopt takes FD over.
type Held struct {
	Mount
	FD       int
	InFlight *os.File
}

// Adopt makes a connection that answers the mount, and takes FD over. What o
// says about the mount itself is replaced by what the holder knows.
func (h *Held) Adopt(f fusefs.FS, o fusefs.Options) (*fusefs.Conn, error) {
	o.Mountpoint, o.FSName, o.MaxRead, o.Device = h.Mountpoint, h.FSName, h.MaxRead, h.Device
	o.InFlight, o.Keep = h.InFlight, true
	conn, err := fusefs.Adopt(h.FD, h.Init, f, o)
	if err != nil {
		return nil, err
	}
	h.FD = -1
	return conn, nil
}

// NewTag makes the tag of a mount.
func NewTag() string {
	b := make([]byte, 8)
	rand.Read(b) //nolint:errcheck // it does not fail
	return hex.EncodeToString(b)
}

// Close closes what was not taken over.
func (h *Held) Close() {
	if h.FD >= 0 {
		unix.Close(h.FD) //nolint:errcheck // a copy
		h.FD = -1
	}
	h.InFlight.Close() //nolint:errcheck // a copy
}

// Operations.
const (
	opLease = "lease"
	opOpen  = "open"
	opTake  = "take"
	opGive  = "give"
	opDrop  = "drop"
)

type request struct {
	Op      string `json:"op"`
	Version int    `json:"version"`
	Mount   Mount  `json:"mount,omitzero"`
}

type answer struct {
	Error  string  `json:"error,omitempty"`
	Kind   string  `json:"kind,omitempty"`
	PID    int     `json:"pid,omitempty"`
	Mounts []Mount `json:"mounts,omitempty"`
}

var kinds = map[string]error{"busy": ErrBusy, "none": ErrNone}

func (a *answer) fail(err error) {
	a.Error = err.Error()
	for kind, is := range kinds {
		if errors.Is(err, is) {
			a.Kind = kind
		}
	}
}

func (a *answer) err() error {
	if a.Error == "" {
		return nil
	}
	if is := kinds[a.Kind]; is != nil {
		return fmt.Errorf("%w (holder: %s)", is, a.Error)
	}
	return fmt.Errorf("holder: %s", a.Error)
}

// send writes one message, with the descriptors of h if it is not nil.
func send(conn *net.UnixConn, message any, h *Held) error {
	text, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("holder: %w", err)
	}
	if len(text) > maxMessage {
		return fmt.Errorf("holder: message of %d bytes", len(text))
	}
	var rights []byte
	if h != nil {
		rights = unix.UnixRights(h.FD, int(h.InFlight.Fd()))
	}
	if _, _, err := conn.WriteMsgUnix(text, rights, nil); err != nil {
		return fmt.Errorf("holder: %w", err)
	}
	return nil
}

// receive reads one message. The descriptors that came with it are h's; h is nil
// if there were none. Any other number of them is an error.
func receive(conn *net.UnixConn, message any) (*Held, error) {
	text, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(16*4))
	n, oobn, flags, _, err := conn.ReadMsgUnix(text, oob)
	fds, ferr := descriptors(oob[:max(oobn, 0)])
	closeAll := func() {
		for _, fd := range fds {
			unix.Close(fd) //nolint:errcheck // not wanted
		}
	}
	switch {
	case err == nil && n == 0:
		err = errors.New("nothing was said")
	case err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = errors.New("message cut short")
	case err == nil && len(fds) != 0 && len(fds) != 2:
		err = fmt.Errorf("%d descriptors", len(fds))
	}
	if err = errors.Join(err, ferr); err == nil {
		err = json.Unmarshal(text[:n], message)
	}
	if err != nil {
		closeAll()
		return nil, fmt.Errorf("holder: %w", err)
	}
	if len(fds) == 0 {
		return nil, nil
	}
	return &Held{FD: fds[0], InFlight: os.NewFile(uintptr(fds[1]), "requests in flight")}, nil
}

func descriptors(oob []byte) (fds []int, err error) {
	if len(oob) == 0 {
		return nil, nil
	}
	list, err := unix.ParseSocketControlMessage(oob)
	for i := range list {
		got, perr := unix.ParseUnixRights(&list[i])
		if perr != nil {
			err = errors.Join(err, perr)
		}
		fds = append(fds, got...)
	}
	return fds, err
}

// peerPID is who is at the other end; 0 if it is in a namespace that is not ours.
func peerPID(conn *net.UnixConn) (int32, error) {
	if err := control.CheckPeer(conn); err != nil {
		return 0, err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("holder: %w", err)
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || cerr != nil {
		return 0, fmt.Errorf("holder: peer: %w", errors.Join(err, cerr))
	}
	return cred.Pid, nil
}
