package rootfsprovider_test

import (
	"archive/tar"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/cell/control/controltest"
	"github.com/rootstock-cf/rootstock/rootfsprovider"
	"github.com/rootstock-cf/rootstock/rootfsprovider/ociimage"
)

// pemOf makes a certificate file.
func pemOf(t testing.TB, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	must(t, err)
	path := filepath.Join(t.TempDir(), name+".pem")
	must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return path
}

// fullCell has a stack with a certificate store, two buildpacks, and a droplet.
func fullCell(t testing.TB) (c *cell, r rootfsprovider.Request) {
	t.Helper()
	c = newCell(t)
	c.mkdir(filepath.Join(c.lower, "etc/ssl/certs"), 0o755)
	c.mkdir(filepath.Join(c.lower, "usr/local/share"), 0o755)
	c.mkdir(filepath.Join(c.lower, "home/vcap2"), 0o755)
	c.write("stack's own\n", c.lower, "etc/ssl/certs/ca-certificates.crt")
	must(t, os.Chmod(filepath.Join(c.lower, "etc/ssl"), 0o751))
	must(t, os.Chmod(c.lower, 0o751))
	trees := map[string]control.Lower{}
	for _, name := range []string{"ruby", "go"} {
		dir := filepath.Join(t.TempDir(), name)
		c.mkdir(dir, 0o755)
		c.write(name, dir, "VERSION")
		trees["cvmfs://r.example.org/buildpacks/"+name] = controltest.Tree(dir, "1", 1)
	}
	c.daemon.Add(trees)
	c.conf.Stacks = map[string]string{"test": uri + ":stable"}
	c.conf.TrustedCerts = pemOf(t, "platform")
	c.conf.Buildpacks = &rootfsprovider.Buildpacks{Handles: "stage-.*", Mounts: map[string]string{
		"/buildpacks/ruby": "cvmfs://r.example.org/buildpacks/ruby", "/buildpacks/go": "cvmfs://r.example.org/buildpacks/go",
	}}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, w.WriteHeader(&tar.Header{Name: "./app", Typeflag: tar.TypeReg, Mode: 0o644, Size: 3, Uid: 0, Gid: 1000}))
	_, err := w.Write([]byte("app"))
	must(t, err)
	must(t, w.Close())
	sum := sha256.Sum256(b.Bytes())
	file := filepath.Join(t.TempDir(), "droplet")
	must(t, os.WriteFile(file, b.Bytes(), 0o600))
	c.conf.Droplets.Fetcher = filepath.Join(t.TempDir(), "fetch")
	must(t, os.WriteFile(c.conf.Droplets.Fetcher, []byte(`#!/bin/sh
read -r url
[ "$url" = https://blobs/d ] || { echo "asked for $url $*" >&2; exit 1; }
cat `+file+"\n"), 0o755))
	stack := stackTar(t, "test", uri)
	return c, rootfsprovider.Request{Handle: "stage-1", URI: "oci://" + layout(t, stack, &ociimage.Layer{
		Digest: "sha256:" + hex.EncodeToString(sum[:]), URLs: []string{"https://blobs/d"}, Dir: "/home/vcap2",
	})}
}

func TestStagingContainer(t *testing.T) {
	for _, mapped := range []string{"by nobody", "by the kernel", "by the daemon"} {
		t.Run("mapped "+mapped, func(t *testing.T) {
			c, r := fullCell(t)
			root := uint32(0)
			if mapped != "by nobody" {
				c.conf.UIDMaps, c.conf.GIDMaps, root = guardian, guardian, guardian[0].Host
			}
			if mapped == "by the daemon" {
				c.daemon.Map(uri, c.shifted())
			}
			spec, err := c.provider().Create(t.Context(), r)
			must(t, err)
			at := func(name string) string { return filepath.Join(spec.Root.Path, name) }
			if got, err := os.ReadFile(at("home/vcap2/app")); err != nil || string(got) != "app" {
				t.Errorf("droplet: %q, %v", got, err)
			}
			if uid, gid := owner(t, at("home/vcap2/app")); uid != root || gid != 1000 {
				t.Errorf("droplet's owner %d:%d", uid, gid)
			}
			bundle, err := os.ReadFile(at("etc/ssl/certs/ca-certificates.crt"))
			if err != nil || !strings.HasPrefix(string(bundle), "stack's own\n") || strings.Count(string(bundle), "BEGIN CERT") != 1 {
				t.Errorf("bundle: %q, %v", bundle, err)
			}
			if links, err := filepath.Glob(at("etc/ssl/certs/*.0")); err != nil || len(links) != 1 {
				t.Errorf("hash links: %v, %v", links, err)
			}
			for name, mode := range map[string]uint32{"": 0o751, "etc/ssl": 0o751, "etc/ssl/certs": 0o755, "usr/local/share/ca-certificates": 0o755} {
				var st unix.Stat_t
				must(t, unix.Stat(at(name), &st))
				if st.Mode&0o7777 != mode || st.Uid != root {
					t.Errorf("%q: mode %o, owner %d", name, st.Mode&0o7777, st.Uid)
				}
			}
			if len(spec.Mounts) != 2 || spec.Mounts[0].Destination != "/buildpacks/go" || spec.Mounts[1].Destination != "/buildpacks/ruby" {
				t.Fatalf("mounts: %+v", spec.Mounts)
			}
			for i, want := range []string{"go", "ruby"} {
				file := filepath.Join(spec.Mounts[i].Source, "VERSION")
				if got, err := os.ReadFile(file); err != nil || string(got) != want {
					t.Errorf("buildpack: %q, %v", got, err)
				}
				if err := os.WriteFile(file, nil, 0o600); err == nil {
					t.Error("a buildpack can be written to")
				}
			}
			if pins := fmt.Sprint(c.daemon.Pins()); pins != "[stage-1 stage-1+0 stage-1+1]" {
				t.Errorf("pins: %s", pins)
			}
			if d := c.daemon.Droplet("stage-1"); len(d) != len("sha256:")+64 || !strings.HasPrefix(d, "sha256:") {
				t.Errorf("the daemon is told of the droplet %q", d)
			}
			// The next container of the tree takes the same layer.
			again := rootfsprovider.Request{URI: uri, Handle: "app-1"}
			plain, err := c.provider().Create(t.Context(), again)
			must(t, err)
			if len(plain.Mounts) > 0 {
				t.Errorf("an app's container sees buildpacks: %v", plain.Mounts)
			}
			if cas := c.layers(); len(cas) != 1 {
				t.Errorf("layers of certificates: %v", cas)
			}
			_, err = c.provider().GC(t.Context())
			must(t, err)
			must(t, c.provider().Delete(t.Context(), r.Handle))
			_, err = c.provider().GC(t.Context())
			must(t, err)
			if cas := c.layers(); len(cas) != 1 {
				t.Errorf("a layer in use was collected: %v", cas)
			}
			must(t, c.provider().Delete(t.Context(), "app-1"))
			_, err = c.provider().GC(t.Context())
			must(t, err)
			c.clean()
		})
	}
}

// layers lists the layers of certificates.
func (c *cell) layers() (all []string) {
	c.t.Helper()
	entries, err := os.ReadDir(filepath.Join(c.conf.Store, "cas"))
	must(c.t, err)
	for _, e := range entries {
		if e.IsDir() {
			all = append(all, e.Name())
		}
	}
	return all
}

// Only configured stacks get certificates and buildpacks, and other
// certificates make another layer.
func TestOnlyStacks(t *testing.T) {
	c, r := fullCell(t)
	c.conf.Stacks = map[string]string{"other": "cvmfs://r.example.org/rootfs/other"}
	spec, err := c.provider().Create(t.Context(), r)
	must(t, err)
	got, err := os.ReadFile(filepath.Join(spec.Root.Path, "etc/ssl/certs/ca-certificates.crt"))
	if err != nil || string(got) != "stack's own\n" || len(spec.Mounts) > 0 {
		t.Errorf("%q, %v, %v", got, err, spec.Mounts)
	}
	must(t, c.provider().Delete(t.Context(), r.Handle))
	c.clean()
	c.conf.Stacks["test"] = uri
	for i, certs := range []string{c.conf.TrustedCerts, pemOf(t, "another")} {
		c.conf.TrustedCerts = certs
		_, err := c.provider().Create(t.Context(), rootfsprovider.Request{URI: uri, Handle: fmt.Sprint(i)})
		must(t, err)
	}
	if cas := c.layers(); len(cas) != 2 {
		t.Errorf("layers: %v", cas)
	}
	c.conf.TrustedCerts = filepath.Join(t.TempDir(), "missing")
	if _, err := c.provider().Create(t.Context(), rootfsprovider.Request{URI: uri, Handle: "x"}); err == nil || !strings.Contains(err.Error(), "trusted_certs") {
		t.Errorf("certificates that are not there: %v", err)
	}
}

// Many creates of a tree at once make its layer once.
func TestCertificatesConcurrently(t *testing.T) {
	c, _ := fullCell(t)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			handle := fmt.Sprintf("h%d", i)
			spec, err := c.provider().Create(t.Context(), rootfsprovider.Request{URI: uri, Handle: handle})
			if err != nil {
				t.Error(err)
				return
			}
			got, err := os.ReadFile(filepath.Join(spec.Root.Path, "etc/ssl/certs/ca-certificates.crt"))
			if err != nil || !strings.Contains(string(got), "BEGIN CERT") {
				t.Errorf("%q, %v", got, err)
			}
			if _, err := c.provider().GC(t.Context()); err != nil {
				t.Error(err)
			}
			if err := c.provider().Delete(t.Context(), handle); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	_, err := c.provider().GC(t.Context())
	must(t, err)
	c.clean()
}

// A droplet that is not what it should be leaves no container.
func TestWrongDroplet(t *testing.T) {
	c, r := fullCell(t)
	good := c.conf.Droplets.Fetcher
	for name, script := range map[string]string{
		"other bytes": "#!/bin/sh\nhead -c 2000 /dev/zero\n", "endless": "#!/bin/sh\ncat /dev/zero\n",
		"no bytes": "#!/bin/sh\nexit 0\n", "failure": "#!/bin/sh\necho it is gone >&2\nexit 1\n",
	} {
		c.conf.Droplets.Fetcher = filepath.Join(t.TempDir(), "fetch")
		must(t, os.WriteFile(c.conf.Droplets.Fetcher, []byte(script), 0o755))
		r.DiskLimit, r.ExcludeImage = 1<<20, true
		_, err := c.provider().Create(t.Context(), r)
		if err == nil || !strings.Contains(err.Error(), "droplet") || name == "failure" && !strings.Contains(err.Error(), "it is gone") {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.conf.Droplets.Fetcher = "/no/such/program"
	if _, err := c.provider().Create(t.Context(), r); err == nil || !strings.Contains(err.Error(), "droplets.fetcher") {
		t.Errorf("no fetcher: %v", err)
	}
	c.conf.Droplets.Fetcher = good
	_, err := c.provider().Create(t.Context(), r)
	must(t, err)
	must(t, c.provider().Delete(t.Context(), r.Handle))
	_, err = c.provider().GC(t.Context())
	must(t, err)
	c.clean()
}

// With everything there is, a kill at any step leaves only what is cleaned up.
func TestKilledWithEverything(t *testing.T) {
	c, r := fullCell(t)
	r.DiskLimit, r.ExcludeImage = 1<<20, true
	c.conf.UIDMaps, c.conf.GIDMaps = guardian, guardian
	var create, del []string
	note := func(into *[]string) func(string) error {
		return func(name string) error { *into = append(*into, name); return nil }
	}
	p := c.provider()
	rootfsprovider.SetStep(p, note(&create))
	_, err := p.Create(t.Context(), r)
	must(t, err)
	rootfsprovider.SetStep(p, note(&del))
	must(t, p.Delete(t.Context(), r.Handle))
	for _, want := range []string{"trusting", "trusted", "unpacked", "noted 0", "noted 1", "buildpacks"} {
		if !strings.Contains(strings.Join(create, ","), want) {
			t.Fatalf("steps %v lack %s", create, want)
		}
	}
	collect := func(what string) {
		_, err := c.provider().GC(t.Context())
		must(t, err)
		c.report(t, what)
	}
	collect("nothing")
	for _, step := range create {
		die(t, order{c.conf, r, false, step})
		if step == "ready" {
			must(t, c.provider().Delete(t.Context(), r.Handle))
		}
		collect("create killed after " + step)
		die(t, order{c.conf, r, false, step})
		must(t, c.provider().Delete(t.Context(), r.Handle))
		_, err := c.provider().Create(t.Context(), r)
		must(t, err)
		must(t, c.provider().Delete(t.Context(), r.Handle))
		collect("create killed after " + step + ", then delete and create")
	}
	for _, step := range del {
		_, err := c.provider().Create(t.Context(), r)
		must(t, err)
		die(t, order{c.conf, r, true, step})
		must(t, c.provider().Delete(t.Context(), r.Handle))
		collect("delete killed after " + step)
	}
}

// Pins that the daemon could not be told are gone are told it later.
func TestFurtherPinsAreReleasedLater(t *testing.T) {
	c, r := fullCell(t)
	_, err := c.provider().Create(t.Context(), r)
	must(t, err)
	c.daemon.Stop()
	must(t, c.provider().Delete(t.Context(), r.Handle))
	if pins := c.daemon.Pins(); len(pins) != 3 {
		t.Errorf("pins: %v", pins)
	}
	c.daemon.Restart(t)
	_, err = c.provider().GC(t.Context())
	must(t, err)
	c.clean()
}

func TestWriteThinTars(t *testing.T) {
	c := newCell(t)
	c.conf.Stacks = map[string]string{"cflinuxfs4": "cvmfs://r.example.org/rootfs/cflinuxfs4:stable", "test": uri}
	dir := filepath.Join(t.TempDir(), "st*cks")
	names, err := c.provider().WriteThinTars(dir)
	if err != nil || fmt.Sprint(names) != "[cflinuxfs4 test]" {
		t.Errorf("%v, %v", names, err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "real.tar"), []byte("somebody else's"), 0o600))
	spec, err := c.provider().Create(t.Context(), rootfsprovider.Request{URI: filepath.Join(dir, "test.tar"), Handle: "h"})
	must(t, err)
	if _, err := os.Stat(filepath.Join(spec.Root.Path, "etc/file")); err != nil {
		t.Error(err)
	}
	must(t, c.provider().Delete(t.Context(), "h"))
	delete(c.conf.Stacks, "cflinuxfs4")
	_, err = c.provider().WriteThinTars(dir)
	must(t, err)
	left, err := filepath.Glob(filepath.Join(filepath.Dir(dir), "st[*]cks", "*"))
	if err != nil || len(left) != 2 {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := c.provider().WriteThinTars("relative"); err == nil {
		t.Error("a relative directory was taken")
	}
}
