package source_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/internal/testregistry"
	"github.com/rootstock-cf/rootstock/publisher/source"
)

func TestDockerRegistry(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("REGISTRY_AUTH_FILE", "/nowhere")
	host := testregistry.Start(t, "")
	img, tars := image(t)
	layout := "oci:" + ociLayout(t, img, "v1")
	for tag, args := range map[string][]string{
		"gzip": nil, "zstd": {"--dest-compress", "--dest-compress-format", "zstd"}, "plain": {"--dest-decompress"},
		"docker": {"--format", "v2s2"},
	} {
		t.Run(tag, func(t *testing.T) {
			copied := append([]string{"skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false"}, args...)
			tool(t, append(copied, layout, "docker://"+host+"/team/app:"+tag)...)
			o := quick(t)
			o.PlainHTTP = []string{host}
			s := checkImage(t, "docker://"+host+"/team/app:"+tag, o, tars)
			if s.Registry != host || s.Repository != "team/app" || s.Tag != tag {
				t.Errorf("named %q %q %q", s.Registry, s.Repository, s.Tag)
			}
			again := quick(t)
			again.PlainHTTP = o.PlainHTTP
			pinned := checkImage(t, "docker://"+host+"/team/app@"+s.Digest, again, tars)
			if pinned.Tag != "" || pinned.Digest != s.Digest {
				t.Errorf("pinned: tag %q, digest %s", pinned.Tag, pinned.Digest)
			}
		})
	}
	t.Run("plain HTTP only when told", func(t *testing.T) {
		_, err := source.OpenImage(context.Background(), "docker://"+host+"/team/app:gzip", quick(t))
		if !errors.Is(err, source.ErrPlainHTTP) || !strings.Contains(err.Error(), "--plain-http "+host) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no such image", func(t *testing.T) {
		o := quick(t)
		o.PlainHTTP = []string{host}
		_, err := source.OpenImage(context.Background(), "docker://"+host+"/team/none:x", o)
		if !errors.Is(err, source.ErrNotFound) || !strings.Contains(err.Error(), "team/none:x") {
			t.Errorf("got %v", err)
		}
	})
}

func TestDockerRegistryLogin(t *testing.T) {
	users := testregistry.Users(t, "ann", "secret word")
	host := testregistry.Start(t, users)
	img, tars := image(t)
	spec := "docker://" + host + "/team/app:1"
	tool(t, "skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", "--dest-creds", "ann:secret word",
		"oci:"+ociLayout(t, img, "v1"), spec)
	login := t.TempDir()
	config := fmt.Sprintf(`{"auths":{%q:{"username":"ann","password":"secret word"}}}`, host)
	if err := os.WriteFile(filepath.Join(login, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	// As skopeo and podman keep it.
	podman := filepath.Join(t.TempDir(), "auth.json")
	tool(t, "skopeo", "login", "--tls-verify=false", "--authfile", podman, "--username", "ann", "--password", "secret word", host)
	for name, tc := range map[string]struct {
		config, auth, user, password string
		ok                           bool
	}{
		"flags":            {t.TempDir(), "/nowhere", "ann", "secret word", true},
		"docker's login":   {login, "/nowhere", "", "", true},
		"podman's login":   {t.TempDir(), podman, "", "", true},
		"nobody":           {t.TempDir(), "/nowhere", "", "", false},
		"a wrong password": {login, podman, "ann", "guess", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("DOCKER_CONFIG", tc.config)
			t.Setenv("REGISTRY_AUTH_FILE", tc.auth)
			o := quick(t)
			o.PlainHTTP, o.Username, o.Password = []string{host}, tc.user, tc.password
			if tc.ok {
				checkImage(t, spec, o, tars)
				return
			}
			_, err := source.OpenImage(context.Background(), spec, o)
			if !errors.Is(err, source.ErrRefused) || !strings.Contains(err.Error(), "registry "+host+" refuses") || !strings.Contains(err.Error(), "--username") {
				t.Errorf("got %v", err)
			}
			if tc.password != "" && strings.Contains(err.Error(), tc.password) {
				t.Errorf("the password is in %v", err)
			}
		})
	}
}

// faulty is a registry whose answers to requests for path parts go through a
// handler first, which says whether it has answered.
func faulty(t *testing.T, img v1.Image, fault func(w http.ResponseWriter, r *http.Request) bool) (spec string, o source.Options) {
	t.Helper()
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	var on atomic.Bool
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !on.Load() || !fault(w, r) {
			inner.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(u.Host+"/app:1", name.Insecure)
	if err == nil {
		err = remote.Write(ref, img)
	}
	if err != nil {
		t.Fatal(err)
	}
	on.Store(true)
	o = quick(t)
	o.PlainHTTP = []string{u.Host}
	return "docker://" + u.Host + "/app:1", o
}

func TestStatus(t *testing.T) {
	img, _ := image(t)
	for name, tc := range map[string]struct {
		path  string
		code  int
		kind  error
		says  string
		tries int32
	}{
		"401":          {"/manifests/", 401, source.ErrRefused, "log in", 1},
		"403":          {"/manifests/", 403, source.ErrRefused, "log in", 1},
		"404":          {"/manifests/", 404, source.ErrNotFound, "/app:1", 1},
		"429":          {"/manifests/", 429, source.ErrRefused, "too many requests, after 4 tries", 4},
		"500":          {"/manifests/", 500, nil, "500 Internal Server Error) after 4 tries", 4},
		"503":          {"/manifests/", 503, nil, "503 Service Unavailable", 4},
		"blob 404":     {"/blobs/", 404, source.ErrNotFound, "has no config sha256:", 1},
		"blob 502":     {"/blobs/", 502, nil, "502 Bad Gateway", 4},
		"ping refused": {"/v2/", 403, source.ErrRefused, "log in", 1},
	} {
		t.Run(name, func(t *testing.T) {
			var tries atomic.Int32
			spec, o := faulty(t, img, func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, tc.path) {
					return false
				}
				tries.Add(1)
				w.WriteHeader(tc.code)
				return true
			})
			_, err := source.OpenImage(context.Background(), spec, o)
			if err == nil || tc.kind != nil && !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), spec) {
				t.Errorf("got %v", err)
			}
			if tries.Load() != tc.tries {
				t.Errorf("asked %d times, want %d", tries.Load(), tc.tries)
			}
			noLeftovers(t, o)
		})
	}
}

func lowest(t *testing.T, img v1.Image) v1.Descriptor {
	t.Helper()
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	return m.Layers[0]
}

// layerBytes is the compressed lowest layer.
func layerBytes(t *testing.T, img v1.Image) []byte {
	t.Helper()
	l, err := img.LayerByDigest(lowest(t, img).Digest)
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLayerFaults(t *testing.T) {
	img, tars := image(t)
	d, whole := lowest(t, img), layerBytes(t, img)
	cut := func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", fmt.Sprint(len(whole)))
		w.Write(whole[:len(whole)/2]) //nolint:errcheck // the client sees it
		panic(http.ErrAbortHandler)
	}
	for name, tc := range map[string]struct {
		serve func(w http.ResponseWriter, r *http.Request, try int32) bool
		kind  error // nil: recovers
		says  string
		tries int32
	}{
		"cut once":    {func(w http.ResponseWriter, r *http.Request, try int32) bool { return try == 1 && panics(cut, w) }, nil, "", 2},
		"cut always":  {func(w http.ResponseWriter, r *http.Request, _ int32) bool { return panics(cut, w) }, source.ErrTruncated, fmt.Sprintf("after %d of %d bytes", len(whole)/2, len(whole)), 4},
		"500 once":    {func(w http.ResponseWriter, r *http.Request, try int32) bool { w.WriteHeader(500); return true }, nil, "", 2},
		"short":       {func(w http.ResponseWriter, r *http.Request, _ int32) bool { w.Write(whole[:100]); return true }, source.ErrTruncated, "after 100 of", 4}, //nolint:errcheck // the client sees it
		"other bytes": {func(w http.ResponseWriter, r *http.Request, _ int32) bool { w.Write(flipped(whole)); return true }, source.ErrDigest, "", 1},             //nolint:errcheck // the client sees it
		"longer": {func(w http.ResponseWriter, r *http.Request, _ int32) bool {
			w.Write(append(bytes.Clone(whole), 1))
			return true
		}, source.ErrDigest, "", 1}, //nolint:errcheck // the client sees it
		"stall once":    {func(w http.ResponseWriter, r *http.Request, try int32) bool { return try == 1 && stalls(w, r, whole) }, nil, "", 2},
		"stall at head": {func(_ http.ResponseWriter, r *http.Request, _ int32) bool { <-r.Context().Done(); return true }, source.ErrTruncated, "sent nothing for", 4},
	} {
		t.Run(name, func(t *testing.T) {
			var tries atomic.Int32
			spec, o := faulty(t, img, func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, d.Digest.String()) {
					return false
				}
				try := tries.Add(1)
				if name == "500 once" && try > 1 {
					return false
				}
				return tc.serve(w, r, try)
			})
			if strings.HasPrefix(name, "stall") {
				o.StallTimeout = 300 * time.Millisecond
			}
			s, err := source.OpenImage(context.Background(), spec, o)
			if err != nil {
				t.Fatal(err)
			}
			b, err := readLayer(s.Layers[0])
			switch {
			case tc.kind == nil && (err != nil || !bytes.Equal(b, tars[0])):
				t.Errorf("%d bytes, %v", len(b), err)
			case tc.kind != nil && (!errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), d.Digest.String())):
				t.Errorf("got %v", err)
			}
			if tc.tries != 0 && tries.Load() != tc.tries {
				t.Errorf("asked %d times, want %d", tries.Load(), tc.tries)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			noLeftovers(t, o)
		})
	}
}

// panics lets cut abort the connection; its result is never used.
func panics(cut func(http.ResponseWriter), w http.ResponseWriter) bool {
	cut(w)
	return true
}

func flipped(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

func stalls(w http.ResponseWriter, r *http.Request, b []byte) bool {
	w.Header().Set("Content-Length", fmt.Sprint(len(b)))
	w.Write(b[:len(b)/3])    //nolint:errcheck // the client sees it
	w.(http.Flusher).Flush() //nolint:forcetypeassert // net/http's are
	<-r.Context().Done()
	return true
}

// A layer is downloaded once however often it is read.
func TestSpooledOnce(t *testing.T) {
	img, tars := image(t)
	d := lowest(t, img)
	var tries atomic.Int32
	spec, o := faulty(t, img, func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, d.Digest.String()) {
			tries.Add(1)
		}
		return false
	})
	checkImage(t, spec, o, tars)
	if tries.Load() != 1 {
		t.Errorf("downloaded %d times", tries.Load())
	}
}

func TestSpoolFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount a small tmpfs: a full TempDir not tried")
	}
	img, _ := image(t)
	spec, o := faulty(t, img, func(http.ResponseWriter, *http.Request) bool { return false })
	if err := unix.Mount("tmpfs", o.TempDir, "tmpfs", 0, "size=8k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(o.TempDir, 0); err != nil {
			t.Error(err)
		}
	})
	s, err := source.OpenImage(context.Background(), spec, o)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := readLayer(s.Layers[0]); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), o.TempDir) {
			t.Errorf("got %v", err)
		}
		noLeftovers(t, o)
	}
}

// An https registry must not lead a client to plain HTTP.
func TestRedirectToPlainHTTP(t *testing.T) {
	img, _ := image(t)
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(elsewhere.Close)
	spec, o := faulty(t, img, func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, elsewhere.URL+"/blob", http.StatusTemporaryRedirect)
			return true
		}
		return false
	})
	if _, err := source.OpenImage(context.Background(), spec, o); !errors.Is(err, source.ErrPlainHTTP) || !strings.Contains(err.Error(), elsewhere.Listener.Addr().String()) {
		t.Errorf("got %v", err)
	}
}

func TestManifestTooLarge(t *testing.T) {
	img, _ := image(t)
	spec, o := faulty(t, img, func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Write(make([]byte, 5<<20)) //nolint:errcheck // the client hangs up
			return true
		}
		return false
	})
	if _, err := source.OpenImage(context.Background(), spec, o); !errors.Is(err, source.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

// Names of Docker Hub, without asking it: the message of a cancelled request
// shows what would have been asked.
func TestDockerHubNames(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for spec, want := range map[string]string{
		"docker://alpine:3.19":                   "docker.io/library/alpine:3.19",
		"docker://docker.io/library/alpine:3.19": "docker.io/library/alpine:3.19",
		"docker://docker.io/alpine":              "docker.io/library/alpine:latest",
		"docker://example.com:5000/a/b":          "example.com:5000/a/b:latest",
	} {
		_, err := source.OpenImage(ctx, spec, quick(t))
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "image "+want+" from registry") {
			t.Errorf("%s: %v", spec, err)
		}
	}
}
