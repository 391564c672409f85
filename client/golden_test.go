package client_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/fusefs/tree"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/fusefs/viewtest"
	"github.com/rootstock-cf/rootstock/manifest"
)

var _ tree.View = (*client.Repository)(nil)

// golden returns a directory of repositories written by stock CernVM-FS.
func golden(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("ROOTSTOCK_GOLDEN")
	if dir == "" {
		dir = "../../shared/golden"
	}
	dir = filepath.Join(dir, name)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no golden repositories: set ROOTSTOCK_GOLDEN to where they are: %v", err)
	}
	return dir
}

// options are those of a fresh client of the repository that handler serves.
func options(t *testing.T, fqrn, keys string, handler http.Handler) client.Options {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	f, err := fetch.New(fetch.Config{Servers: []string{server.URL}, Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return client.Options{
		Name: fqrn, Fetcher: f, Cache: newCache(t, cache.Options{}), Getenv: goldenEnv,
		Trust: manifest.Trust{Keys: publicKeys(t, filepath.Join(keys, fqrn+".pub"))},
	}
}

func goldenEnv(name string) (string, bool) {
	if name == "CVMFS_GOLDEN_VAR" {
		return "/opt/golden", true
	}
	return "", false
}

func newCache(t *testing.T, o cache.Options) *cache.Cache {
	t.Helper()
	o.SyncInterval = -1
	c, err := cache.Open(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func openRepository(t *testing.T, o client.Options) *client.Repository {
	t.Helper()
	r, err := client.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// line is what tools/treelist.py says about an entry.
type line struct {
	Path        string            `json:"path"`
	Type        string            `json:"type"`
	Mode        string            `json:"mode"`
	UID         uint32            `json:"uid"`
	GID         uint32            `json:"gid"`
	Size        int64             `json:"size"`
	MTime       int64             `json:"mtime_s"`
	MTimeNS     int32             `json:"mtime_ns"`
	Links       uint32            `json:"nlink"`
	Group       string            `json:"hlgroup,omitempty"`
	Rdev        string            `json:"rdev,omitempty"`
	Target      string            `json:"target,omitempty"`
	Rawlink     string            `json:"rawlink,omitempty"`
	SHA256      string            `json:"sha256,omitempty"`
	ReadError   string            `json:"read_error,omitempty"`
	Hash        string            `json:"cvmfs_hash,omitempty"`
	Chunks      string            `json:"cvmfs_chunks,omitempty"`
	Compression string            `json:"cvmfs_compression,omitempty"`
	XAttrs      map[string]string `json:"xattrs,omitempty"`
}

// Python writes bytes that are not UTF-8 as lone low surrogates, which JSON
// decoders replace. They take a detour through a private plane.
var loneSurrogate = regexp.MustCompile(`(\\ud[89ab][0-9a-f]{2})?\\udc([89a-f][0-9a-f])`)

func protect(b []byte) []byte {
	return loneSurrogate.ReplaceAllFunc(b, func(m []byte) []byte {
		if len(m) > 6 {
			return m // a proper pair
		}
		return append([]byte(`\ue0`), m[4:]...)
	})
}

func restore(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r >= 0xe080 && r <= 0xe0ff {
			b.WriteByte(byte(r & 0xff))
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func listing(t *testing.T, path string) map[string]line {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]line{}
	for s := bufio.NewScanner(bytes.NewReader(raw)); s.Scan(); {
		var l line
		if err := json.Unmarshal(protect(s.Bytes()), &l); err != nil {
			t.Fatal(err)
		}
		l.Path, l.Target, l.Group = restore(l.Path), restore(l.Target), restore(l.Group)
		all[l.Path] = l
	}
	if len(all) == 0 {
		t.Fatalf("%s lists nothing", path)
	}
	return all
}

// walk lists a view as treelist.py lists a mount.
func walk(t *testing.T, r *client.Repository) map[string]line {
	t.Helper()
	w := walker{t: t, r: r, all: map[string]line{}, inodes: map[uint64]string{}}
	a, err := r.Attr(t.Context(), r.Root())
	if err != nil {
		t.Fatal(err)
	}
	w.visit("", r.Root(), a)
	return w.all
}

type walker struct {
	t      *testing.T
	r      *client.Repository
	all    map[string]line
	inodes map[uint64]string
}

var typeNames = map[uint32]string{
	catalog.ModeRegular: "file", catalog.ModeDir: "dir", catalog.ModeSymlink: "symlink", catalog.ModeFIFO: "fifo",
	catalog.ModeSocket: "socket", catalog.ModeChar: "chr", catalog.ModeBlock: "blk",
}

func (w *walker) visit(path string, n view.Node, a view.Attr) {
	ctx := w.t.Context()
	l := line{
		Path: path, Type: typeNames[a.Mode&catalog.ModeType], Mode: fmt.Sprintf("%04o", a.Mode&0o7777), UID: a.UID, GID: a.GID,
		Size: a.Size, MTime: a.MTime, MTimeNS: a.MTimeNS, Links: a.Links,
	}
	if path == "" {
		l.Path = "/"
	}
	xattr := func(name string) string {
		v, err := w.r.XAttr(ctx, n, name)
		if err != nil && !errors.Is(err, view.ErrNoXAttr) {
			w.t.Errorf("%s: %s: %v", path, name, err)
		}
		return string(v)
	}
	switch l.Type {
	case "chr", "blk":
		l.Rdev = fmt.Sprintf("%d:%d", a.Rdev>>8&0xfff|a.Rdev>>32&^0xfff, a.Rdev&0xff|a.Rdev>>12&^0xff)
	case "symlink":
		target, err := w.r.Readlink(ctx, n)
		if err != nil {
			w.t.Errorf("%s: %v", path, err)
		}
		l.Target = string(target)
		if raw := xattr("xfsroot.rawlink"); raw != l.Target {
			l.Rawlink = raw
		}
	case "file":
		if a.Links > 1 {
			if _, ok := w.inodes[a.Ino]; !ok {
				w.inodes[a.Ino] = path
			}
			l.Group = w.inodes[a.Ino]
		}
		l.Hash, l.Chunks, l.Compression = xattr("user.hash"), xattr("user.chunks"), xattr("user.compression")
		l.SHA256, l.ReadError = w.digest(n, a.Size)
	}
	stored, err := w.r.ListXAttr(ctx, n)
	if err != nil {
		w.t.Errorf("%s: %v", path, err)
	}
	if path == "" {
		stored = nil // computed ones; no golden root has its own
	}
	for _, name := range stored {
		if l.XAttrs == nil {
			l.XAttrs = map[string]string{}
		}
		l.XAttrs[name] = base64.StdEncoding.EncodeToString([]byte(xattr(name)))
	}
	w.all[l.Path] = l
	if l.Type != "dir" {
		return
	}
	err = w.r.ReadDir(ctx, n, 0, func(name string, n view.Node, a view.Attr) bool {
		w.visit(path+"/"+name, n, a)
		return true
	})
	if err != nil {
		l.ReadError = "Input/output error"
		w.all[l.Path] = l
	}
}

func (w *walker) digest(n view.Node, size int64) (sum, failure string) {
	c, err := w.r.Open(w.t.Context(), n)
	if err != nil {
		return "", "Input/output error"
	}
	defer c.Close() //nolint:errcheck // read only
	if c.Size() != size {
		w.t.Errorf("content of %d bytes, attributes say %d", c.Size(), size)
	}
	h := sha256.New()
	// Odd pieces, so that reads cross chunks.
	if _, err := io.CopyBuffer(h, io.NewSectionReader(readerAt{w.t.Context(), c}, 0, size), make([]byte, 77_777)); err != nil {
		return "", "Input/output error"
	}
	return hex.EncodeToString(h.Sum(nil)), ""
}

type readerAt struct {
	ctx context.Context
	c   view.Content
}

func (r readerAt) ReadAt(p []byte, off int64) (int, error) { return r.c.ReadAt(r.ctx, p, off) }

func compare(t *testing.T, want, got map[string]line) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		if len(diff) > 4000 {
			diff = diff[:4000] + "\n…"
		}
		t.Errorf("tree differs (-stock +ours):\n%s", diff)
	}
}

func TestGoldenTrees(t *testing.T) {
	for _, set := range []string{"basic", "nested", "chunked", "chunkeddef", "shake128", "uncompressed", "tags", "tagsgc"} {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			dir := golden(t, set)
			fqrn := strings.TrimSuffix(set, "gc") + ".golden.cf"
			o := options(t, fqrn, filepath.Join(dir, "keys"), http.FileServer(http.Dir(filepath.Join(dir, "repo"))))
			r := openRepository(t, o)
			compare(t, listing(t, filepath.Join(dir, "tree.jsonl")), walk(t, r))
			viewtest.Run(t, r)
		})
	}
}

// Everything again with one catalog mapped at a time, from a cache that knows
// all, and with no server.
func TestGoldenOffline(t *testing.T) {
	dir := golden(t, "nested")
	files := http.FileServer(http.Dir(filepath.Join(dir, "repo")))
	up := true
	o := options(t, "nested.golden.cf", filepath.Join(dir, "keys"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !up {
			http.Error(w, "", http.StatusBadGateway)
			return
		}
		files.ServeHTTP(w, r)
	}))
	want := listing(t, filepath.Join(dir, "tree.jsonl"))
	compare(t, want, walk(t, openRepository(t, o)))
	up = false
	o.MaxCatalogs = 1
	r := openRepository(t, o)
	compare(t, want, walk(t, r))
	if s := r.Status(); !s.Offline || s.Catalogs > 1 {
		t.Errorf("%+v", s)
	}
}

func TestGoldenTags(t *testing.T) {
	dir := golden(t, "tags")
	serve := func(t *testing.T) client.Options {
		return options(t, "tags.golden.cf", filepath.Join(dir, "keys"), http.FileServer(http.Dir(filepath.Join(dir, "repo"))))
	}
	tags, err := filepath.Glob(filepath.Join(dir, "tree.*.jsonl"))
	if err != nil || len(tags) == 0 {
		t.Fatalf("no listings of tags: %v", err)
	}
	for _, path := range tags {
		tag := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "tree."), ".jsonl")
		t.Run(tag, func(t *testing.T) {
			o := serve(t)
			o.Tag = tag
			r := openRepository(t, o)
			want := listing(t, path)
			compare(t, want, walk(t, r))
			if changed, err := r.Refresh(t.Context()); changed || err != nil {
				t.Errorf("refresh of a tag: %v, %v", changed, err)
			}
			byHash := serve(t)
			byHash.RootHash = r.Status().RootHash
			byHash.Trust = manifest.Trust{}
			compare(t, want, walk(t, openRepository(t, byHash)))
		})
	}
	t.Run("unknown", func(t *testing.T) {
		o := serve(t)
		o.Tag = "nosuch"
		if _, err := client.Open(t.Context(), o); !errors.Is(err, client.ErrNoTag) || !strings.Contains(err.Error(), "nosuch") {
			t.Errorf("%v", err)
		}
		o = serve(t)
		o.Date = time.Unix(1e9, 0)
		if _, err := client.Open(t.Context(), o); !errors.Is(err, client.ErrNoTag) {
			t.Errorf("a date before all tags: %v", err)
		}
		o = serve(t)
		o.Date = time.Unix(4e9, 0)
		compare(t, listing(t, filepath.Join(dir, "tree.jsonl")), walk(t, openRepository(t, o)))
	})
}

// Each broken repository is refused where the stock client refuses it, for a
// reason that says what is wrong.
func TestGoldenFail(t *testing.T) {
	dir := golden(t, "fail")
	at := func(t *testing.T, variant string) client.Options {
		return options(t, "fail.golden.cf", filepath.Join(dir, "keys"), http.FileServer(http.Dir(filepath.Join(dir, variant))))
	}
	for variant, reason := range map[string]struct {
		kind error
		text string
	}{
		"cert-tampered":               {fetch.ErrCorrupt, "certificate"},
		"manifest-body-tampered":      {manifest.ErrSignature, "manifest"},
		"manifest-foreign-cert":       {manifest.ErrUntrusted, "certificate is not on the whitelist"},
		"manifest-truncated":          {manifest.ErrMalformed, "manifest"},
		"rootcatalog-tampered":        {fetch.ErrCorrupt, "root catalog"},
		"whitelist-expired":           {manifest.ErrExpired, "whitelist has expired"},
		"whitelist-foreign-masterkey": {manifest.ErrSignature, "whitelist"},
	} {
		t.Run(variant, func(t *testing.T) {
			r, err := client.Open(t.Context(), at(t, variant))
			if err == nil {
				r.Close()
				t.Fatal("mounts")
			}
			if !errors.Is(err, reason.kind) || !strings.Contains(err.Error(), reason.text) {
				t.Errorf("refused for another reason: %v", err)
			}
		})
	}
	want := listing(t, filepath.Join(dir, "tree.jsonl"))
	for variant, bad := range map[string]string{
		"good": "", "ok-whitelist-two-certs": "", "nestedcatalog-tampered": "/nest", "file-tampered": "*", "file-truncated": "*",
		"file-appended": "*", "chunk-tampered": "/chunked",
	} {
		t.Run(variant, func(t *testing.T) {
			r := openRepository(t, at(t, variant))
			got := walk(t, r)
			var failed []string
			for path, l := range got {
				if l.ReadError != "" {
					failed = append(failed, path)
				}
			}
			switch {
			case bad == "":
				compare(t, want, got)
				return
			case len(failed) != 1 || bad != "*" && failed[0] != bad:
				t.Fatalf("errors at %v, want at %s", failed, bad)
			}
			for path, w := range want {
				under := path == failed[0] || bad == "/nest" && strings.HasPrefix(path, "/nest/")
				if !under && cmp.Diff(w, got[path]) != "" {
					t.Errorf("%s: differs though it is sound", path)
				}
			}
			n, err := strconv.Atoi(mustXAttr(t, r, r.Root(), "user.nioerr"))
			if err != nil || n == 0 {
				t.Errorf("user.nioerr is %d, %v", n, err)
			}
		})
	}
}

func mustXAttr(t *testing.T, r *client.Repository, n view.Node, name string) string {
	t.Helper()
	v, err := r.XAttr(t.Context(), n, name)
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	return string(v)
}
