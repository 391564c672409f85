// Late reads a file as one that is patient but gets signals: its thread is sent
// SIGURG all the time, as Go's own run time does, and no call is repeated. It
// prints the SHA-256 of the contents, or fails with what the first call said.
package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
)

func main() {
	runtime.LockOSThread()
	pid, thread := os.Getpid(), syscall.Gettid()
	go func() {
		for {
			syscall.RawSyscall(syscall.SYS_TGKILL, uintptr(pid), uintptr(thread), uintptr(syscall.SIGURG))
			time.Sleep(20 * time.Millisecond)
		}
	}()
	// Standard output is a pipe: nobody waits for long, and it is not told of.
	os.Stdout.WriteString("reading\n")
	fd, err := syscall.Open(os.Args[1], syscall.O_RDONLY, 0)
	if err != nil {
		fail("open", err)
	}
	sum := sha256.New()
	buf := make([]byte, 64<<10)
	for {
		n, err := syscall.Read(fd, buf)
		if err != nil {
			fail("read", err)
		}
		if n == 0 {
			break
		}
		sum.Write(buf[:n])
	}
	fmt.Printf("%x\n", sum.Sum(nil))
}

func fail(call string, err error) {
	fmt.Fprintf(os.Stderr, "%s %s: %v\n", call, os.Args[1], err)
	os.Exit(1)
}
