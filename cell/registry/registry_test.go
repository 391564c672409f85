package registry_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/cell/registry"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// real starts Debian's docker-registry behind a password, with one image of
// tag 1 in it, and returns its address, the image's digest and how to end it.
func real(t *testing.T) (host, digest string, end func()) {
	t.Helper()
	for _, program := range []string{"docker-registry", "htpasswd"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED: %s is missing; install docker-registry and apache2-utils", program)
		}
	}
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	host = l.Addr().String()
	l.Close()
	passwords := filepath.Join(dir, "htpasswd")
	out, err := exec.Command("htpasswd", "-Bbn", "bob", "s3cret").Output()
	must(t, err)
	must(t, os.WriteFile(passwords, out, 0o600))
	conf := filepath.Join(dir, "config.yml")
	must(t, os.WriteFile(conf, fmt.Appendf(nil, `version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: %s}}
http: {addr: %s}
auth: {htpasswd: {realm: test, path: %s}}
`, filepath.Join(dir, "data"), host, passwords), 0o600))
	cmd := exec.Command("docker-registry", "serve", conf)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	must(t, cmd.Start())
	ended := false
	end = func() {
		if !ended {
			ended = true
			cmd.Process.Signal(syscall.SIGTERM)
			cmd.Wait()
		}
	}
	t.Cleanup(end)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", host); err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			end()
			t.Fatalf("docker-registry does not listen: %s", said.String())
		}
	}
	return host, push(t, host), end
}

// push puts an image without layers into org/app.
func push(t *testing.T, host string) (digest string) {
	t.Helper()
	config := []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`)
	send := func(method, url, kind string, body []byte) *http.Response {
		req, err := http.NewRequest(method, url, bytes.NewReader(body))
		must(t, err)
		req.SetBasicAuth("bob", "s3cret")
		req.Header.Set("Content-Type", kind)
		resp, err := http.DefaultClient.Do(req)
		must(t, err)
		defer resp.Body.Close()
		if resp.StatusCode/100 != 2 {
			text, _ := io.ReadAll(resp.Body)
			t.Fatalf("%s %s: %s: %s", method, url, resp.Status, text)
		}
		return resp
	}
	sum := func(b []byte) string { s := sha256.Sum256(b); return "sha256:" + hex.EncodeToString(s[:]) }
	base := "http://" + host + "/v2/org/app"
	place := send("POST", base+"/blobs/uploads/", "", nil).Header.Get("Location")
	send("PUT", place+"&digest="+sum(config), "application/octet-stream", config)
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
		"config": map[string]any{"mediaType": "application/vnd.docker.container.image.v1+json", "size": len(config), "digest": sum(config)},
		"layers": []any{},
	})
	must(t, err)
	send("PUT", base+"/manifests/1", "application/vnd.docker.distribution.manifest.v2+json", manifest)
	return sum(manifest)
}

func TestRegistryWithPassword(t *testing.T) {
	host, digest, end := real(t)
	right := control.PullRequest{Image: host + "/org/app", Digest: digest, Username: "bob", Password: "s3cret", PlainHTTP: true}
	change := func(f func(*control.PullRequest)) control.PullRequest { r := right; f(&r); return r }
	a := registry.New()
	for name, tc := range map[string]struct {
		r    control.PullRequest
		want error
	}{
		"right":          {right, nil},
		"wrong password": {change(func(r *control.PullRequest) { r.Password = "guess" }), control.ErrDenied},
		"wrong user":     {change(func(r *control.PullRequest) { r.Username = "alice" }), control.ErrDenied},
		"none":           {change(func(r *control.PullRequest) { r.Username, r.Password = "", "" }), control.ErrDenied},
		"other digest":   {change(func(r *control.PullRequest) { r.Digest = "sha256:" + strings.Repeat("00", 32) }), control.ErrDenied},
		"other image":    {change(func(r *control.PullRequest) { r.Image = host + "/org/other" }), control.ErrDenied},
		"no digest":      {change(func(r *control.PullRequest) { r.Digest = "1" }), control.ErrInvalid},
		"no image":       {change(func(r *control.PullRequest) { r.Image = "../../x" }), control.ErrInvalid},
		"TLS":            {change(func(r *control.PullRequest) { r.PlainHTTP = false }), control.ErrUnavailable},
		"no such CA":     {change(func(r *control.PullRequest) { r.CA = "no certificate" }), control.ErrInvalid},
	} {
		err := a.MayPull(t.Context(), tc.r)
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && (strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "guess")) {
			t.Errorf("%s shows a password: %v", name, err)
		}
	}
	end()
	// A yes is remembered, for the credentials that got it.
	if err := a.MayPull(t.Context(), right); err != nil {
		t.Errorf("remembered: %v", err)
	}
	for name, r := range map[string]control.PullRequest{
		"wrong password": change(func(r *control.PullRequest) { r.Password = "guess" }),
		"none":           change(func(r *control.PullRequest) { r.Username, r.Password = "", "" }),
	} {
		if err := a.MayPull(t.Context(), r); !errors.Is(err, control.ErrUnavailable) {
			t.Errorf("registry down, %s: %v", name, err)
		}
	}
	if err := registry.New().MayPull(t.Context(), right); !errors.Is(err, control.ErrUnavailable) || !strings.Contains(err.Error(), host) {
		t.Errorf("registry down: %v", err)
	}
}

// tokens is a registry that sends to a token server, as the public ones do.
type tokens struct {
	realm  string // of the challenge, "" for its own
	status atomic.Int32
	asked  atomic.Int32
}

const good = "sha256:0101010101010101010101010101010101010101010101010101010101010101"

func (s *tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	switch {
	case s.status.Load() != 0:
		w.WriteHeader(int(s.status.Load()))
	case r.URL.Path == "/token":
		user, password, ok := r.BasicAuth()
		if ok && (user != "bob" || password != "s3cret") {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.URL.Query().Get("scope") != "repository:org/app:pull" || r.URL.Query().Get("service") != "a, b" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, `{"token":"for-%s"}`, user)
	case r.Header.Get("Authorization") == "":
		realm := s.realm
		if realm == "" {
			realm = "http://" + r.Host + "/token"
		}
		w.Header().Set("Www-Authenticate", `Bearer realm="`+realm+`",service="a, b",scope="whatever"`)
		w.WriteHeader(http.StatusUnauthorized)
	case r.Header.Get("Authorization") != "Bearer for-bob", r.Method != http.MethodHead:
		w.WriteHeader(http.StatusUnauthorized)
	case r.URL.Path != "/v2/org/app/manifests/"+good:
		w.WriteHeader(http.StatusNotFound)
	case !strings.Contains(strings.Join(r.Header.Values("Accept"), ","), "vnd.oci.image.index"):
		w.WriteHeader(http.StatusNotFound)
	}
}

func TestTokens(t *testing.T) {
	reg := &tokens{}
	server := httptest.NewServer(reg)
	defer server.Close()
	r := control.PullRequest{
		Image: server.Listener.Addr().String() + "/org/app", Digest: good, Username: "bob", Password: "s3cret", PlainHTTP: true,
	}
	a := registry.New()
	must(t, a.MayPull(t.Context(), r))
	before := reg.asked.Load()
	must(t, a.MayPull(t.Context(), r))
	if reg.asked.Load() != before {
		t.Error("a yes was not remembered")
	}
	wrong, none := r, r
	wrong.Password = "guess"
	none.Username, none.Password = "", ""
	for name, r := range map[string]control.PullRequest{"wrong": wrong, "none": none} {
		if err := a.MayPull(t.Context(), r); !errors.Is(err, control.ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, status := range []int32{500, 503, 429, 302} {
		reg.status.Store(status)
		if err := registry.New().MayPull(t.Context(), r); !errors.Is(err, control.ErrUnavailable) {
			t.Errorf("HTTP %d: %v", status, err)
		}
	}
	reg.status.Store(0)
	// Credentials do not go to whatever a registry with TLS names.
	reg.realm = "ftp://x/token"
	if err := registry.New().MayPull(t.Context(), r); !errors.Is(err, control.ErrUnavailable) || !strings.Contains(err.Error(), "ftp://") {
		t.Errorf("strange realm: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := registry.New().MayPull(ctx, r); err == nil {
		t.Error("an ended context asks")
	}
}
