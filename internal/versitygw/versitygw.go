// Package versitygw runs a real S3 server for tests: versitygw, built once from
// the module proxy at a fixed version into a cache beside the Go build cache.
// It keeps objects as files below a directory, knows conditional puts, and
// checks signatures. Connections are not kept alive: it answers a put whose
// condition fails before it has read the body, and then takes the body for the
// next request.
package versitygw

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Version is what is built.
const Version = "v1.8.0"

// The one user of the server, and where it says it is.
const (
	AccessKey = "rootstocktest"
	SecretKey = "rootstocktestsecret"
	Region    = "us-east-1"
)

// Server is a running server, which ends with the test.
type Server struct {
	URL string // http://127.0.0.1:PORT
	Dir string // buckets are directories in it
}

// patience bounds the start; machines may be slow.
const patience = time.Minute

var build = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "rootstock-test", "versitygw-"+Version)
	program := filepath.Join(dir, "versitygw")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	// Of several test binaries that want it at once, one builds.
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("wait for who builds versitygw: %w", err)
	}
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	temp, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	cmd := exec.Command("go", "install", "-trimpath", "github.com/versity/versitygw/cmd/versitygw@"+Version)
	cmd.Dir = temp // outside any module
	cmd.Env = append(os.Environ(), "GOBIN="+temp, "GOFLAGS=-mod=mod", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build versitygw %s: %w\n%s", Version, err, out)
	}
	return program, os.Rename(filepath.Join(temp, "versitygw"), program)
})

// Program returns the server's executable, building it if it was never built.
func Program() (string, error) { return build() }

// Start runs a server with these buckets. Its directory must be on a file
// system with extended attributes; tmpfs has them since Linux 6.6.
func Start(t testing.TB, buckets ...string) *Server {
	t.Helper()
	program, err := Program()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Dir: t.TempDir()}
	for _, b := range buckets {
		if err := os.Mkdir(filepath.Join(s.Dir, b), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for try := 0; ; try++ {
		if err = s.run(t, program); err == nil {
			return s
		}
		if try == 3 {
			t.Fatal(err)
		}
	}
}

func (s *Server) run(t testing.TB, program string) error {
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, "--quiet", "--port", address, "--access", AccessKey, "--secret", SecretKey,
		"--region", Region, "posix", s.Dir)
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// The kernel ends the server with the thread that started it, should the
	// test die; so that thread waits for it.
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		ended <- cmd.Wait()
	}()
	if err := <-started; err != nil {
		return err
	}
	s.URL = "http://" + address
	deadline := time.Now().Add(patience)
	for !answers(s.URL) {
		select {
		case err := <-ended:
			return fmt.Errorf("versitygw ended: %w\n%s", err, said.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			err := cmd.Process.Kill()
			<-ended
			return errors.Join(errors.New("versitygw does not answer"), err)
		}
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil { // asked to end, it would wait for idle connections
			t.Errorf("end versitygw: %v", err)
		}
		<-ended
	})
	return nil
}

func answers(url string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return true
}
