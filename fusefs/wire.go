package fusefs

import (
	"encoding/binary"
	"strconv"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// The parts of the protocol (linux/fuse.h) that the read loop looks at itself.
const (
	opLookup      = 1
	opForget      = 2
	opGetattr     = 3
	opReadlink    = 5
	opRead        = 15
	opStatfs      = 17
	opGetxattr    = 22
	opListxattr   = 23
	opInit        = 26
	opReaddir     = 28
	opInterrupt   = 36
	opBatchForget = 42
	opReaddirplus = 44

	inHeaderSize  = int(unsafe.Sizeof(fuse.InHeader{}))
	outHeaderSize = int(unsafe.Sizeof(fuse.OutHeader{}))

	// sizeAt is where a READ, a READDIR and a READDIRPLUS state the bytes
	// wanted; a GETXATTR and a LISTXATTR state them right after the header.
	sizeAt = int(unsafe.Offsetof(fuse.ReadIn{}.Size))

	// maxWriteAt is the place of max_write in the reply to INIT.
	maxWriteAt = outHeaderSize + int(unsafe.Offsetof(fuse.InitOut{}.MaxWrite))

	// readBuffer is the longest request we take, in bytes. The kernel wants
	// room for one page of WRITE, which a read-only mount never sends, and
	// fills what there is with BATCH_FORGETs.
	readBuffer = 64 << 10
	minWrite   = 4096

	// replyRoom is what a reply needs besides the bytes a request asks for: a
	// header, the largest fixed part, a link target.
	replyRoom = 8 << 10
)

func opName(op uint32) string {
	switch op {
	case opLookup:
		return "lookup"
	case opGetattr:
		return "getattr"
	case opReadlink:
		return "readlink"
	case opRead:
		return "read"
	case opStatfs:
		return "statfs"
	case opGetxattr:
		return "getxattr"
	case opListxattr:
		return "listxattr"
	case opReaddir, opReaddirplus:
		return "readdir"
	}
	return "opcode " + strconv.FormatUint(uint64(op), 10)
}

func opcode(in []byte) uint32 { return binary.NativeEndian.Uint32(in[4:]) }
func unique(in []byte) uint64 { return binary.NativeEndian.Uint64(in[8:]) }
func nodeID(in []byte) uint64 { return binary.NativeEndian.Uint64(in[16:]) }
func caller(in []byte) uint32 { return binary.NativeEndian.Uint32(in[32:]) }

func setNodeID(in []byte, id uint64) { binary.NativeEndian.PutUint64(in[16:], id) }

// payload is how many bytes a request asks for.
func payload(in []byte) int {
	at := 0
	switch opcode(in) {
	case opRead, opReaddir, opReaddirplus:
		at = sizeAt
	case opGetxattr, opListxattr:
		at = inHeaderSize
	default:
		return 0
	}
	if len(in) < at+4 {
		return 0
	}
	return int(binary.NativeEndian.Uint32(in[at:]))
}

// replyStatus is the errno in a reply, positive.
func replyStatus(out []byte) fuse.Status {
	return fuse.Status(-int32(binary.NativeEndian.Uint32(out[4:])))
}

// header makes out's first bytes a reply or, with unique 0, a notification.
func header(out []byte, length int, code int32, unique uint64) {
	binary.NativeEndian.PutUint32(out, uint32(length))
	binary.NativeEndian.PutUint32(out[4:], uint32(code))
	binary.NativeEndian.PutUint64(out[8:], unique)
}

// interrupted is the request that an INTERRUPT speaks of.
func interrupted(in []byte) uint64 { return binary.NativeEndian.Uint64(in[inHeaderSize:]) }
