package fusefs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// ErrProtocol reports a kernel whose FUSE protocol is not ours.
var ErrProtocol = errors.New("FUSE protocol not understood")

// Init is what the kernel said when the connection began. Another process needs
// it to adopt the connection, see [Adopt].
type Init struct {
	Major        uint32 `json:"major"`
	Minor        uint32 `json:"minor"`
	MaxReadAhead uint32 `json:"max_read_ahead"` // bytes
	Flags        uint64 `json:"flags"`          // FUSE_* capabilities
	// Agreed are the capabilities that were answered, 0 if that is not known.
	Agreed uint64 `json:"agreed,omitempty"`
}

// Init returns what the kernel said when the connection began.
func (c *Conn) Init() Init { return c.init }

// request is the INIT message that says i.
func (i Init) request() []byte {
	in := fuse.InitIn{
		Major:        i.Major,
		Minor:        i.Minor,
		MaxReadAhead: i.MaxReadAhead,
		Flags:        uint32(i.Flags),
		Flags2:       uint32(i.Flags >> 32),
	}
	in.Opcode = opInit
	in.Length = uint32(unsafe.Sizeof(in))
	p, err := binary.Append(nil, binary.NativeEndian, &in)
	if err != nil {
		panic(err) // a struct of fixed size
	}
	return p
}

// kernelsOwn are capabilities that say when the kernel asks what, and do not change
// what is answered. Whoever began the connection may have chosen otherwise.
const kernelsOwn = fuse.CAP_READDIRPLUS_AUTO

// continueFrom makes a connection of what another process agreed on.
func (c *Conn) continueFrom(init Init) error {
	if _, err := c.agree(init.request()); err != nil {
		return err
	}
	if init.Agreed != 0 && (init.Agreed^c.init.Agreed)&^kernelsOwn != 0 {
		return fmt.Errorf("%w: the connection was begun with the capabilities %#x, and this program takes %#x",
			ErrProtocol, init.Agreed, c.init.Agreed)
	}
	return nil
}

// agree has the INIT message in answered and returns the reply.
func (c *Conn) agree(in []byte) ([]byte, error) {
	var msg fuse.InitIn
	if len(in) < inHeaderSize+16 || opcode(in) != opInit {
		return nil, fmt.Errorf("%w: the first request, of %d bytes, is not INIT", ErrProtocol, len(in))
	}
	full := make([]byte, unsafe.Sizeof(msg))
	copy(full, in)
	if _, err := binary.Decode(full, binary.NativeEndian, &msg); err != nil {
		return nil, fmt.Errorf("%w: first request: %w", ErrProtocol, err)
	}
	c.init = Init{Major: msg.Major, Minor: msg.Minor, MaxReadAhead: msg.MaxReadAhead, Flags: msg.Flags64()}

	out := make([]byte, replyRoom)
	n, st := c.server.HandleRequest([][]byte{in}, [][]byte{out})
	if !st.Ok() || n < maxWriteAt+4 || replyStatus(out) != fuse.OK {
		return nil, fmt.Errorf("%w: kernel speaks %d.%d", ErrProtocol, msg.Major, msg.Minor)
	}
	const flagsAt, flags2At = outHeaderSize + int(unsafe.Offsetof(fuse.InitOut{}.Flags)), outHeaderSize + int(unsafe.Offsetof(fuse.InitOut{}.Flags2))
	c.init.Agreed = uint64(binary.NativeEndian.Uint32(out[flagsAt:]))
	if n >= flags2At+4 {
		c.init.Agreed |= uint64(binary.NativeEndian.Uint32(out[flags2At:])) << 32
	}
	// Nothing is ever written; a page keeps the request buffers small.
	binary.NativeEndian.PutUint32(out[maxWriteAt:], minWrite)
	return out[:n], nil
}
