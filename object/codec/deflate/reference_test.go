package deflate_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"unsafe"

	"modernc.org/libc"
	z "modernc.org/z/lib"

	"github.com/rootstock-cf/rootstock/object/codec/deflate"
)

// A reference is an implementation of C zlib's compress2 at its default level.
type reference func(src []byte) ([]byte, error)

// transpiled is C zlib 1.2.11, transpiled to Go. Its memory lies outside Go's
// heap.
func transpiled(src []byte) ([]byte, error) {
	tls := libc.NewTLS()
	defer tls.Close()
	bound := z.XcompressBound(tls, z.ULong(len(src)))
	const word = 8
	mem := libc.Xmalloc(tls, word+bound+uint64(len(src)))
	if mem == 0 {
		return nil, fmt.Errorf("reference: no memory for %d bytes", len(src))
	}
	defer libc.Xfree(tls, mem)
	out, in := mem+word, mem+word+uintptr(bound)
	length := (*z.ULong)(at(mem))
	*length = bound
	if len(src) > 0 {
		copy(unsafe.Slice((*byte)(at(in)), len(src)), src)
	}
	if rc := z.Xcompress2(tls, out, mem, in, z.ULong(len(src)), z.Z_DEFAULT_COMPRESSION); rc != z.Z_OK {
		return nil, fmt.Errorf("reference: zlib error %d", rc)
	}
	return bytes.Clone(unsafe.Slice((*byte)(at(out)), int(*length))), nil
}

// at turns an address of the transpiled zlib's memory into a pointer. That
// memory is never moved nor collected by Go.
func at(addr uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&addr)) }

const pythonServer = `
import struct, sys, zlib
print(zlib.ZLIB_RUNTIME_VERSION, flush=True)
while True:
    head = sys.stdin.buffer.read(8)
    if len(head) < 8:
        break
    stream = zlib.compress(sys.stdin.buffer.read(struct.unpack("<Q", head)[0]))
    sys.stdout.buffer.write(struct.pack("<Q", len(stream)) + stream)
    sys.stdout.buffer.flush()
`

// installed is the C zlib of this machine, reached through Python's module. It
// serves one test and ends with it.
func installed(tb testing.TB) reference {
	tb.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		tb.Skip("python3, whose zlib module is C zlib, is not installed: NOT COMPARED with it")
	}
	cmd := exec.Command(python, "-c", pythonServer)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			tb.Errorf("python3: %v\n%s", err, stderr.String())
		}
	})
	out := bufio.NewReaderSize(pipe, 1<<20)
	version, err := out.ReadString('\n')
	if err != nil {
		tb.Fatal(err)
	}
	if strings.Contains(version, "ng") {
		tb.Skipf("python3's zlib is %s, which is not C zlib: NOT COMPARED with it", strings.TrimSpace(version))
	}
	return func(src []byte) ([]byte, error) {
		var head [8]byte
		binary.LittleEndian.PutUint64(head[:], uint64(len(src)))
		if _, err := in.Write(head[:]); err != nil {
			return nil, err
		}
		if _, err := in.Write(src); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(out, head[:]); err != nil {
			return nil, err
		}
		stream := make([]byte, binary.LittleEndian.Uint64(head[:]))
		_, err := io.ReadFull(out, stream)
		return stream, err
	}
}

// compare fails the test if Append's result for src is not the reference's.
func compare(tb testing.TB, ref reference, name string, src []byte) {
	tb.Helper()
	compareTo(tb, ref, name, src, deflate.Append(nil, src))
}

func compareTo(tb testing.TB, ref reference, name string, src, got []byte) {
	tb.Helper()
	want, err := ref(src)
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	if bytes.Equal(got, want) {
		return
	}
	n := 0
	for n < min(len(got), len(want)) && got[n] == want[n] {
		n++
	}
	tb.Errorf("%s, %d bytes: result has %d bytes, C zlib's %d; they differ from byte %d on", name, len(src), len(got), len(want), n)
}
