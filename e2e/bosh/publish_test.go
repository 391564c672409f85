package bosh_test

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/rootstock-cf/rootstock/internal/testregistry"
)

// listed is what the job publishes by its list: its file is not there at first.
const listed = "/var/vcap/data/rootstock-stratum0/listed.tar"

// listedOnly are the properties of a stratum 0 that has a list.
func listedOnly() m {
	return m{"sync": m{
		"interval": "500ms", "wishlist": m{"rootfs": []any{m{"name": "listed", "version": "1", "file": listed}}},
	}}
}

// eventually waits until something holds, or says what it waited for.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !holds(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s\n%s%s", what, logs("rootstock-cell"), logs("rootstock-stratum0"))
		}
	}
}

// synced puts what the list names where it says: the cell shows it, and nobody
// has published anything by hand.
func synced(t *testing.T) {
	t.Helper()
	must(t, os.Link("/var/vcap/data/hello.tar", listed))
	eventually(t, "what is on the list is on the cell", func() bool {
		_, err := os.Stat(shown + "/rootfs/listed/1/inside")
		return err == nil
	})
}

// team is a registry that lets in one user, with an image.
func team(t *testing.T) (host string, properties m) {
	t.Helper()
	const user, password = "rootstock", "it:s a secret"
	host = testregistry.Start(t, testregistry.Users(t, user, password))
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return os.Open("/var/vcap/data/hello.tar") })
	must(t, err)
	image, err := mutate.AppendLayers(empty.Image, layer)
	must(t, err)
	ref, err := name.ParseReference(host+"/team/app:1", name.Insecure)
	must(t, err)
	must(t, remote.Write(ref, image, remote.WithAuth(&authn.Basic{Username: user, Password: password})))
	return host, m{
		"publish":    m{"allow": []string{host + "/team"}},
		"registries": m{host: m{"username": user, "password": password, "plain_http": true}},
	}
}

// onDemand has a container ask for an image that nobody has published: it gets
// grootfs' that time, and the next one the published one. What is asked for goes
// from the plugin through the daemon to the job's own process, over mutual TLS.
func onDemand(t *testing.T, garden *instance, host string) {
	t.Helper()
	merge(garden.properties, m{
		"public": []string{host + "/team"}, "image_repositories": []string{repository}, "wishes": m{"ca": certificate(t, "cell")["ca"]},
	})
	garden.properties["stacks"] = m{"hello": "cvmfs://" + repository + "/rootfs/hello"}
	deploy(t, garden)
	stacks(t, "hello.tar") // the other is no stack any more
	uri := "docker://" + host + "/team/app:1"
	first := create(t, "unprivileged", uri)
	if first.root != "/var/vcap/data/grootfs/rootfs" {
		t.Errorf("an image that is not published got %s", first.root)
	}
	eventually(t, "an image that was asked for is published", func() bool {
		call(t, "unprivileged", "delete", first.handle)
		first = create(t, "unprivileged", uri)
		return first.root != "/var/vcap/data/grootfs/rootfs"
	})
	if said := read(t, first.root+"/etc/file"); said != "as published" {
		t.Errorf("the published image holds %q", said)
	}
	call(t, "unprivileged", "delete", first.handle)
	// Who has no certificate may not ask.
	const config = "/var/vcap/jobs/rootstock-cell/config/"
	ask := []string{"curl", "-sSf", "--noproxy", "*", "--cacert", config + "ca.pem", "https://127.0.0.1:8001/publish"}
	if out, _, err := bounded(t, time.Minute, ask...); err == nil {
		t.Errorf("who has no certificate is answered %s", out)
	}
	out, errs, err := bounded(t, time.Minute, append(ask, "--cert", config+"client.crt", "--key", config+"client.key")...)
	if err != nil || !strings.Contains(out, host+"/team/app:1") {
		t.Errorf("with a certificate: %v, %s%s", err, out, errs)
	}
}

// droplet has a container with a disk limit, whose write layer therefore is a
// mount of its own, and whose droplet the daemon has to find all the same: it
// was started before.
func droplet(t *testing.T) {
	t.Helper()
	const handle = "unprivileged-droplet"
	var doc struct{ Root struct{ Path string } }
	must(t, json.Unmarshal([]byte(call(t, "unprivileged", "create", "--disk-limit-size-bytes", "50000000",
		"cvmfs://"+repository+"/rootfs/hello@1", handle)), &doc))
	file := doc.Root.Path + "/home/vcap/app/node_modules/left/package.json"
	write(t, file, `{"name":"left","version":"1.0.0"}`, 0o644)
	// What is younger than the container is not of a droplet.
	old := time.Unix(1_700_000_000, 0)
	must(t, os.Chtimes(file, old, old))
	eventually(t, "the daemon reads a write layer", func() bool {
		said := command(t, "/var/vcap/packages/rootstock/bin/rootstock-cell", "report", "--json", "--socket", "/var/vcap/data/rootstock-cell/cell.sock")
		return strings.Contains(said, `"droplet":"files:`)
	})
	call(t, "unprivileged", "delete", handle)
}
