package e2e_test

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/e2e/rig"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/reference"
)

// A revision that is withdrawn while containers stand on it: no new container
// gets it, those that run keep it, and with the last of them the mount goes.
func TestWithdrawnWhileInUse(t *testing.T) {
	needRoot(t)
	bin := programs(t)
	const name = "w.example.org"
	dir := t.TempDir()
	at := func(p string) string { return filepath.Join(dir, p) }
	keys, master, err := manifest.GenerateKeys(name, manifest.KeyOptions{Bits: 2048})
	if err == nil {
		err = keys.Write(at("keys"), master)
	}
	if err == nil {
		err = os.WriteFile(at("blacklist"), nil, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	writeTar(t, at("one.tar"), "etc/motd", "welcome\n")
	rig.Run(t, bin+"/rootstock", "init", "--store", at("store"), "--name", name, "--keys", at("keys"))
	rig.Run(t, bin+"/rootstock", "publish", "--store", at("store"), "--keys", at("keys"), "--cache", "", "rootfs", "demo", "1", at("one.tar"))
	_, process := rig.Cell(t, bin, nil, "--url", rig.Serve(t, at("store")), "--name", name, "--key", manifest.PublicKeyFile(at("keys"), name),
		"--blacklist", at("blacklist"), "--refresh", "50ms", "--tier", "tree", "--socket", at("socket"))
	client := &control.Client{Socket: at("socket")}
	ref := reference.Reference{Repository: name, Kind: reference.Rootfs, Name: "demo", Version: "1"}
	lower, err := client.Lower(t.Context(), control.LowerRequest{Ref: ref, Handle: "first"})
	if err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(at("blacklist"), []byte("<"+name+" 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var status struct {
		Repositories []struct {
			Withdrawn bool   `json:"withdrawn"`
			Untrusted string `json:"untrusted"`
		} `json:"repositories"`
	}
	process.Until("word of the withdrawal", func() bool {
		raw, err := client.Status(t.Context())
		if err == nil {
			err = json.Unmarshal(raw, &status)
		}
		return err == nil && len(status.Repositories) == 1 && status.Repositories[0].Withdrawn
	})
	if why := status.Repositories[0].Untrusted; !strings.Contains(why, "revision 2 is blacklisted") {
		t.Errorf("status says %q", why)
	}
	if _, err := client.Lower(t.Context(), control.LowerRequest{Ref: ref, Handle: "second"}); !errors.Is(err, control.ErrUnavailable) || !strings.Contains(err.Error(), "blacklisted") {
		t.Errorf("a new container gets it: %v", err)
	}
	time.Sleep(200 * time.Millisecond) // a few looks
	if b, err := os.ReadFile(filepath.Join(lower.Lower[0], "etc/motd")); string(b) != "welcome\n" {
		t.Errorf("the running container reads %q, %v", b, err)
	}
	if err := client.Release(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	if err := process.Wait(); err == nil || !strings.Contains(process.Said(), "unmounted: ") {
		t.Errorf("the mount stays without users: %v\n%s", err, process.Said())
	}
}

func writeTar(t *testing.T, path, name, text string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
