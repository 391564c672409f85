package cli_test

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/rootstock-cf/rootstock/cmd/internal/cli"
	"github.com/rootstock-cf/rootstock/internal/testterminal"
	"github.com/rootstock-cf/rootstock/manifest"
)

// halting is a registry that holds a layer back half-way until it is told to go
// on.
func halting(t *testing.T, content []byte) (spec string, goOn func()) {
	t.Helper()
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	gate := make(chan struct{})
	var held string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if held == "" || r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, held) {
			inner.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		w.Write(content[:len(content)/2]) //nolint:errcheck // the client sees it
		w.(http.Flusher).Flush()          //nolint:forcetypeassert // net/http's are
		<-gate
		w.Write(content[len(content)/2:]) //nolint:errcheck // the client sees it
	}))
	t.Cleanup(s.Close)
	goOn = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(goOn)
	l := static.NewLayer(content, types.OCIUncompressedLayer)
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(s.URL, "http://")
	ref, err := name.ParseReference(host+"/app:1", name.Insecure)
	if err == nil {
		err = remote.Write(ref, img)
	}
	if err != nil {
		t.Fatal(err)
	}
	d, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	held = d.String()
	return "docker://" + host + "/app:1", goOn
}

// tarOf is a tar of one file.
func tarOf(t *testing.T, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = w.Write(content)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// newSite makes a repository in a directory, and returns the flags that name it.
func newSite(t *testing.T) (dir string, flags []string) {
	t.Helper()
	dir = t.TempDir()
	k, master, err := manifest.GenerateKeys("t.example.org", manifest.KeyOptions{Bits: 2048})
	if err == nil {
		err = k.Write(filepath.Join(dir, "keys"), master)
	}
	if err != nil {
		t.Fatal(err)
	}
	flags = []string{"--store", filepath.Join(dir, "store"), "--keys", filepath.Join(dir, "keys")}
	run(t, cli.NewRootstock(), append([]string{"init", "--name", "t.example.org"}, flags...)...)
	return dir, flags
}

// Whoever publishes at a terminal sees how far it is, and then only what came of
// it; whoever asks for quiet sees nothing.
func TestPublishTellsProgress(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("REGISTRY_AUTH_FILE", "/nowhere")
	_, site := newSite(t)
	for _, quiet := range []bool{true, false} {
		random := make([]byte, 4<<20)
		rand.Read(random) //nolint:errcheck // never fails
		spec, goOn := halting(t, tarOf(t, random))
		shown, tty := testterminal.New(t, 100)
		var out bytes.Buffer
		root := cli.NewRootstock()
		root.SetOut(&out)
		root.SetErr(tty)
		host := strings.TrimSuffix(strings.TrimPrefix(spec, "docker://"), "/app:1")
		args := append([]string{"publish", "image", spec, "--plain-http", host, "--cache", "", "--as", "r.example.org/app:" + strconv.FormatBool(quiet)}, site...)
		if quiet {
			args = append(args, "--quiet")
			goOn()
		}
		code := make(chan int)
		go func() { code <- cli.Run(root, args) }()
		if !quiet {
			awaitText(t, shown, "publishing 2.0 MiB of 4.0 MiB (50%)")
			goOn()
		}
		if got := <-code; got != 0 {
			t.Fatalf("exit code %d: %s", got, out.String())
		}
		tty.WriteString("end") //nolint:errcheck // seen or not
		last := awaitText(t, shown, "end")
		if quiet && last != "end" {
			t.Errorf("quiet said %q", last)
		}
		if !quiet && !strings.HasSuffix(last, "\r\x1b[Kend") {
			t.Errorf("the line was left behind: %q", last)
		}
		if strings.Contains(out.String(), "publishing") || strings.Contains(out.String(), "published") == quiet {
			t.Errorf("standard output has %q", out.String())
		}
	}
}

// awaitText reads until text has come, and returns all that has.
func awaitText(t *testing.T, r io.Reader, text string) string {
	t.Helper()
	var got []byte
	b := make([]byte, 1)
	for !bytes.HasSuffix(got, []byte(text)) {
		if _, err := io.ReadFull(r, b); err != nil {
			t.Fatalf("%v after %q", err, got)
		}
		got = append(got, b[0])
	}
	return string(got)
}
