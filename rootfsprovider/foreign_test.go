package rootfsprovider_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/cell/control/controltest"
	"github.com/rootstock-cf/rootstock/rootfsprovider"
)

const private = "images/registry.example.org/org/app@1"

// withImages is a cell that knows a few images besides.
func withImages(t testing.TB) *cell {
	t.Helper()
	c := newCell(t)
	image := controltest.Tree(c.lower, "1", imageSize)
	image.Source = sha
	nameless := image
	nameless.Source = ""
	c.daemon.Add(map[string]control.Lower{
		private: image,
		"images/registry.example.org/org/app@" + sha:      image,
		"images/registry.example.org/org/nameless@1":      nameless,
		"images/docker.io/library/busybox@latest":         image,
		"cvmfs://b.example.org/images/docker.io/only/b@1": image,
	})
	return c
}

func TestWhoseImage(t *testing.T) {
	c := withImages(t)
	c.conf.Public = rootfsprovider.Public{"docker.io/library"}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(ca, []byte("certificate\n"), 0o600))
	c.conf.Registries = map[string]rootfsprovider.Registry{"registry.example.org": {CA: ca}}
	create := func(uri, user, password string) error {
		_, err := c.provider().Create(t.Context(), rootfsprovider.Request{URI: uri, Handle: "h", Username: user, Password: password})
		if err == nil {
			must(t, c.provider().Delete(t.Context(), "h"))
		}
		c.clean()
		return err
	}
	must(t, create("docker:///library/busybox", "", ""))
	if asked := c.daemon.Asked(); len(asked) > 0 {
		t.Errorf("a registry was asked about a public image: %v", asked)
	}
	for _, uri := range []string{"docker://registry.example.org/org/app#1", "docker://registry.example.org/org/app@" + sha} {
		if err := create(uri, "bob", "s3cret"); !errors.Is(err, control.ErrDenied) {
			t.Errorf("%s, denied: %v", uri, err)
		}
	}
	c.daemon.Allow(func(r control.PullRequest) error {
		want := control.PullRequest{Image: "registry.example.org/org/app", Digest: sha, Username: "bob", Password: "s3cret", CA: "certificate"}
		if r != want {
			return fmt.Errorf("%w: asked for %+v", control.ErrDenied, r)
		}
		return nil
	})
	must(t, create("docker://registry.example.org/org/app#1", "bob", "s3cret"))
	for _, password := range []string{"", "wrong"} {
		if err := create("docker://registry.example.org/org/app#1", "bob", password); !errors.Is(err, control.ErrDenied) {
			t.Errorf("password %q: %v", password, err)
		}
	}
	if err := create("docker://registry.example.org/org/nameless#1", "bob", "s3cret"); !errors.Is(err, control.ErrDenied) || !strings.Contains(err.Error(), "public") {
		t.Errorf("an image that does not say what it is: %v", err)
	}
	c.daemon.Allow(func(control.PullRequest) error { return fmt.Errorf("%w: down", control.ErrUnavailable) })
	if err := create("docker://registry.example.org/org/app#1", "bob", "s3cret"); !errors.Is(err, control.ErrUnavailable) {
		t.Errorf("registry down: %v", err)
	}
	// What is to be trusted is sent with the question, so it is bounded, and has to be there.
	for what, change := range map[string]func() error{
		"more than 32768 bytes": func() error { return os.WriteFile(ca, make([]byte, 32<<10+1), 0o600) },
		"no such file":          func() error { return os.Remove(ca) },
	} {
		must(t, change())
		err := create("docker://registry.example.org/org/app#1", "bob", "s3cret")
		if err == nil || !strings.Contains(err.Error(), "registries: registry.example.org: ca: ") || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
		must(t, os.WriteFile(ca, []byte("certificate"), 0o600))
	}
	// Several repositories are looked in, in order.
	c.conf.ImageRepositories, c.conf.Public = []string{"a.example.org", "b.example.org"}, rootfsprovider.Public{"docker.io"}
	must(t, create("docker:///only/b#1", "", ""))
	if err := create("docker:///only/c#1", "", ""); !errors.Is(err, control.ErrNotFound) || !strings.Contains(err.Error(), "rootstock publish image docker://docker.io/only/c:1") {
		t.Errorf("not published: %v", err)
	}
}

// The publisher is told of public images that are not published, and of no
// others.
func TestWishes(t *testing.T) {
	c := withImages(t)
	c.conf.Public = rootfsprovider.Public{"docker.io/library"}
	token, ca := filepath.Join(t.TempDir(), "token"), filepath.Join(t.TempDir(), "ca.pem")
	must(t, errors.Join(os.WriteFile(token, []byte("secret\n"), 0o600), os.WriteFile(ca, []byte("certificate\n"), 0o600)))
	c.conf.Wishes = &rootfsprovider.Wishes{URL: "https://publisher.example.org/wishes", CA: ca, Token: token}
	const digest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	for _, uri := range []string{
		"docker:///library/missing#1", "docker:///library/missing@" + digest, "docker:///private/missing#1", "cvmfs://stacks/rootfs/missing",
	} {
		if _, err := c.provider().Create(t.Context(), rootfsprovider.Request{URI: uri, Handle: "h"}); !errors.Is(err, control.ErrNotFound) {
			t.Errorf("%s: %v", uri, err)
		}
	}
	var images []string
	for _, r := range c.daemon.Wished() {
		if r.URL != c.conf.Wishes.URL || r.CA != "certificate" || r.Token != "secret" {
			t.Errorf("%+v", r)
		}
		images = append(images, r.Image)
	}
	if want := []string{"docker.io/library/missing:1", "docker.io/library/missing@" + digest}; !slices.Equal(images, want) {
		t.Errorf("the publisher is told of %q, want %q", images, want)
	}
	// Where there is a fallback, it makes the container meanwhile.
	other(t, c)
	_, err := c.provider().Create(t.Context(), rootfsprovider.Request{URI: "docker:///library/missing#2", Handle: "h"})
	must(t, err)
	if n := len(c.daemon.Wished()); n != 3 {
		t.Errorf("%d wishes, want 3", n)
	}
	must(t, c.provider().Delete(t.Context(), "h"))
}

// other writes a plugin that keeps a directory per container and its calls in
// a log.
func other(t *testing.T, c *cell) (dir string) {
	t.Helper()
	dir = t.TempDir()
	script := `#!/bin/sh
cd ` + dir + ` || exit 9
echo "$*" >>log
[ "$1" = --flag ] || exit 8
shift
case "$1" in
create)
	for handle; do uri=$last; last=$handle; done
	if [ -e fail ]; then mkdir -p "c/$handle"; echo "no such image $uri"; exit 1; fi
	if [ -e text ]; then echo hello; exit; fi
	mkdir "c/$handle" && echo '{"ociVersion":"1.0.0","root":{"path":"/other/'$handle'"},"mounts":[{"destination":"/x"}]}' ;;
delete) [ ! -e stuck ] || { echo stuck; exit 3; }; rm -rf "c/$2" ;;
stats) [ -d "c/$2" ] || { echo unknown; exit 1; }; echo '{"disk_usage":{"total_bytes_used":7,"exclusive_bytes_used":3}}' ;;
esac
`
	must(t, errors.Join(os.Mkdir(filepath.Join(dir, "c"), 0o755), os.WriteFile(filepath.Join(dir, "other"), []byte(script), 0o755)))
	c.conf.Fallback = &rootfsprovider.Program{Path: filepath.Join(dir, "other"), Args: []string{"--flag"}}
	return dir
}

func kept(t *testing.T, dir string) int {
	t.Helper()
	all, err := os.ReadDir(filepath.Join(dir, "c"))
	must(t, err)
	return len(all)
}

func TestFallback(t *testing.T) {
	c := withImages(t)
	dir := other(t, c)
	p := c.provider()
	r := rootfsprovider.Request{
		URI: "docker:///library/other#2", Handle: "h", DiskLimit: 5, ExcludeImage: true, Username: "bob", Password: "s3cret",
	}
	spec, err := p.Create(t.Context(), r)
	must(t, err)
	if doc, err := json.Marshal(spec); err != nil || string(doc) != `{"ociVersion":"1.0.0","root":{"path":"/other/h"},"mounts":[{"destination":"/x"}]}` {
		t.Errorf("document %s, %v", doc, err)
	}
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if want := "--flag create --disk-limit-size-bytes 5 --exclude-image-from-quota --username bob --password s3cret docker:///library/other#2 h\n"; err != nil || string(log) != want {
		t.Errorf("it was called with %q, want %q", log, want)
	}
	if pins := c.daemon.Pins(); len(pins) > 0 {
		t.Errorf("pins: %v", pins)
	}
	if _, err := p.Create(t.Context(), r); !errors.Is(err, rootfsprovider.ErrExists) {
		t.Errorf("again: %v", err)
	}
	s, err := p.Stats(t.Context(), "h")
	if err != nil || s.DiskUsage.Total != 7 || s.DiskUsage.Exclusive != 3 {
		t.Errorf("stats: %+v, %v", s, err)
	}
	// A collection leaves it alone.
	if cleaned, err := p.GC(t.Context()); err != nil || len(cleaned) > 0 || kept(t, dir) != 1 {
		t.Errorf("GC: %v, %v", cleaned, err)
	}
	// Without the other plugin, nobody forgets the container.
	c.conf.Fallback, c.conf.Pool = nil, 0
	if err := c.provider().Delete(t.Context(), "h"); err == nil || !strings.Contains(err.Error(), "fallback") {
		t.Errorf("delete without it: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "stuck"), nil, 0o600))
	if err := p.Delete(t.Context(), "h"); err == nil || !strings.Contains(err.Error(), "stuck") {
		t.Errorf("a delete that fails: %v", err)
	}
	must(t, os.Remove(filepath.Join(dir, "stuck")))
	must(t, p.Delete(t.Context(), "h"))
	c.clean()
	if kept(t, dir) != 0 {
		t.Error("the other plugin was not told")
	}
}

func TestFallbackOnlyForWhatIsNotPublished(t *testing.T) {
	c := withImages(t)
	dir := other(t, c)
	big := filepath.Join(t.TempDir(), "rootfs.tar")
	must(t, os.WriteFile(big, make([]byte, 1<<20), 0o600))
	for uri, passed := range map[string]bool{
		"docker:///library/other": true, big: true, "https://example.org/x": true, "oci://" + layout(t, big, nil): true,
		"docker://registry.example.org/org/app#1": false, // denied
		"cvmfs://r.example.org/rootfs/other":      false,
		"/no/such.tar":                            false,
	} {
		_, err := c.provider().Create(t.Context(), rootfsprovider.Request{URI: uri, Handle: "h"})
		if (err == nil) != passed || kept(t, dir) != map[bool]int{true: 1}[passed] {
			t.Errorf("%s: %v", uri, err)
		}
		must(t, c.provider().Delete(t.Context(), "h"))
		c.clean()
	}
	// Its failure is what users see, and what it left it is told to delete.
	for _, file := range []string{"fail", "text"} {
		must(t, os.WriteFile(filepath.Join(dir, file), nil, 0o600))
		_, err := c.provider().Create(t.Context(), rootfsprovider.Request{URI: "docker:///library/other", Handle: "h", Password: "s3cret"})
		if err == nil || strings.Contains(err.Error(), "s3cret") || file == "fail" && !strings.Contains(err.Error(), "no such image docker:///library/other") {
			t.Errorf("%s: %v", file, err)
		}
		if kept(t, dir) != 0 {
			t.Errorf("%s: a container is left", file)
		}
		c.clean()
		must(t, os.Remove(filepath.Join(dir, file)))
	}
	// A container from before this plugin is deleted and measured as well.
	must(t, os.Mkdir(filepath.Join(dir, "c", "old"), 0o755))
	if s, err := c.provider().Stats(t.Context(), "old"); err != nil || s.DiskUsage.Total != 7 {
		t.Errorf("stats of an older container: %+v, %v", s, err)
	}
	must(t, c.provider().Delete(t.Context(), "old"))
	if kept(t, dir) != 0 {
		t.Error("an older container is left")
	}
	if _, err := c.provider().Stats(t.Context(), "old"); !errors.Is(err, rootfsprovider.ErrUnknown) {
		t.Errorf("stats of none: %v", err)
	}
}

// Killed at any step, a delete or collection reaches the other plugin.
func TestFallbackKilled(t *testing.T) {
	c := withImages(t)
	dir := other(t, c)
	r := rootfsprovider.Request{URI: "docker:///library/other", Handle: "h"}
	create, del := c.steps(r)
	if len(create) < 4 || len(del) < 4 {
		t.Fatalf("steps %v, %v", create, del)
	}
	for _, step := range create {
		die(t, order{c.conf, r, false, step})
		c.recover(t, r, "create killed after "+step, step == "ready")
	}
	for _, step := range del {
		_, err := c.provider().Create(t.Context(), r)
		must(t, err)
		die(t, order{c.conf, r, true, step})
		must(t, c.provider().Delete(context.Background(), "h"))
		c.report(t, "delete killed after "+step)
	}
	if kept(t, dir) != 0 {
		t.Error("a container is left")
	}
}
