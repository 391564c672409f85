// Package testregistry runs Debian's docker-registry for tests, and puts a
// front before it that counts requests and may answer them itself.
package testregistry

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Start runs a registry on a free loopback port until the test ends, and
// returns its host:port. users is an htpasswd file (bcrypt) or "" for a
// registry that asks nobody's name. Without docker-registry the test is
// skipped.
func Start(t testing.TB, users string) string {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("docker-registry is not installed (apt-get install docker-registry): no real registry tried")
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close() //nolint:errcheck,gosec // only reserved the port
	config := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %s}\n", t.TempDir(), host)
	if users != "" {
		config += fmt.Sprintf("auth: {htpasswd: {realm: test, path: %s}}\n", users)
	}
	file := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(context.WithoutCancel(t.Context()), program, "serve", file) // #nosec G204 -- found in PATH
	c.Env = []string{}                                                                   // it takes REGISTRY_… for its own settings
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill() //nolint:errcheck,gosec // it may have ended
		c.Wait()         //nolint:errcheck,gosec // killed
	})
	for range 400 {
		if in, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", host); err == nil {
			in.Close() //nolint:errcheck,gosec // only probing
			return host
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatal("docker-registry does not answer")
	return ""
}

// Users writes an htpasswd file with one user and returns its name.
func Users(t testing.TB, user, password string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "htpasswd")
	if out, err := exec.CommandContext(t.Context(), "htpasswd", "-bBc", file, user, password).CombinedOutput(); err != nil { // #nosec G204
		t.Fatalf("htpasswd: %v\n%s", err, out)
	}
	return file
}

// Front stands before a registry. Its Host is what images are named by.
type Front struct {
	Host string

	mu       sync.Mutex
	requests []string
	fault    func(w http.ResponseWriter, r *http.Request) bool
}

// NewFront begins to pass requests on to the registry at host.
func NewFront(t testing.TB, host string) *Front {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host})
	f := &Front{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.requests = append(f.requests, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Range")))
		fault := f.fault
		f.mu.Unlock()
		if fault == nil || !fault(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	f.Host = strings.TrimPrefix(s.URL, "http://")
	return f
}

// Fault makes f ask first whether a request is to be passed on; fault returns
// true for one that it has answered.
func (f *Front) Fault(fault func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// Taken returns the requests since it was last called, as METHOD PATH [RANGE],
// without those that only ask how to log in.
func (f *Front) Taken() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, r := range f.requests {
		if r != "GET /v2/" {
			all = append(all, r)
		}
	}
	f.requests = nil
	return all
}
