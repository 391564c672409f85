package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// report is what testdata/inside prints.
type report struct {
	UID   int
	Env   []string
	Files map[string]struct {
		UID, GID   uint32
		Mode       uint32
		Capability bool
		Text       string
	}
	AsUser map[string]struct {
		UID, EUID int
		Effective string
	}
	Wrote string
	Full  int64
}

// run starts a container with runc the way gdn does: its init and its /etc
// files are bind-mounted over files that runc has to make in the root.
func (h *host) run(handle, root string, env []string, mapping []overlay.IDRange, args ...string) report {
	h.t.Helper()
	if _, err := exec.LookPath("runc"); err != nil {
		h.t.Skip("SKIPPED: runc is missing; install it")
	}
	bundle := h.t.TempDir()
	for d := bundle; d != "/" && d != "/tmp"; d = filepath.Dir(d) {
		must(h.t, os.Chmod(d, 0o755))
	}
	depot := map[string]string{"/tmp/garden-init": "init", "/etc/hosts": "hosts", "/etc/resolv.conf": "resolv.conf"}
	spec := specs.Spec{
		Version: "1.0.2",
		Root:    &specs.Root{Path: root},
		Process: &specs.Process{
			Args: append([]string{"/inside"}, args...), Cwd: "/", Env: env,
			Capabilities: capabilities("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETUID", "CAP_SETGID"),
		},
		Hostname: "container",
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: "/rootstock-test-" + strconv.Itoa(os.Getpid()) + "-" + handle,
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace},
				{Type: specs.MountNamespace},
				{Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace},
				{Type: specs.NetworkNamespace},
			},
		},
	}
	for destination, name := range depot {
		source := filepath.Join(bundle, name)
		must(h.t, os.WriteFile(source, []byte("gdn's "+name), 0o755))
		spec.Mounts = append(spec.Mounts, specs.Mount{
			Destination: destination, Type: "bind", Source: source, Options: []string{"bind", "ro"},
		})
	}
	if mapping != nil {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		for _, r := range mapping {
			m := specs.LinuxIDMapping{ContainerID: r.Container, HostID: r.Host, Size: r.Size}
			spec.Linux.UIDMappings = append(spec.Linux.UIDMappings, m)
			spec.Linux.GIDMappings = append(spec.Linux.GIDMappings, m)
		}
	}
	text, err := json.Marshal(spec)
	must(h.t, err)
	must(h.t, os.WriteFile(filepath.Join(bundle, "config.json"), text, 0o644))
	cmd := exec.Command("runc", "--root", filepath.Join(bundle, "state"), "run", "--bundle", bundle, handle)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		h.t.Fatalf("runc: %v: %s%s", err, errs.String(), out.String())
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		h.t.Fatalf("the container printed %q: %v", out.String(), err)
	}
	return r
}

func capabilities(names ...string) *specs.LinuxCapabilities {
	return &specs.LinuxCapabilities{Bounding: names, Effective: names, Permitted: names}
}

// A container looks the same from inside, with and without a user namespace:
// root's files are root's, vcap's are vcap's, and all of it can be changed.
func TestContainers(t *testing.T) {
	for name, mapping := range map[string][]overlay.IDRange{"privileged": nil, "unprivileged": guardian} {
		for _, limit := range []int64{0, 4 << 20} {
			t.Run(fmt.Sprintf("%s limit %d", name, limit), func(t *testing.T) {
				h := newHost(t, mapping)
				var flags []string
				if limit > 0 {
					flags = []string{"--disk-limit-size-bytes", strconv.FormatInt(limit+imageSize, 10)}
				}
				root, env := h.create("h", flags...)
				var args []string
				if limit > 0 {
					args = []string{"fill"}
				}
				r := h.run("h", root, env, mapping, args...)
				if r.UID != 0 || r.Wrote != "" {
					t.Errorf("user %d, writing: %s", r.UID, r.Wrote)
				}
				if !slices.Contains(r.Env, "FROM_IMAGE=yes") {
					t.Errorf("environment %v", r.Env)
				}
				for file, want := range map[string]uint32{"/": 0, "/etc/file": 0, "/home/vcap": 1000} {
					if got := r.Files[file]; got.UID != want || got.GID != want {
						t.Errorf("%s belongs to %d:%d, want %d", file, got.UID, got.GID, want)
					}
				}
				// A set-user-id program and one with a capability raise
				// who runs them, as where the tree comes from.
				if f := r.Files["/bin/setuid"]; f.Mode != 0o4755 || f.UID != 0 {
					t.Errorf("set-user-id program: mode %o of user %d", f.Mode, f.UID)
				}
				if u := r.AsUser["setuid"]; u.UID != 1000 || u.EUID != 0 {
					t.Errorf("set-user-id program of user 1000: %+v", u)
				}
				if f := r.Files["/bin/capable"]; !f.Capability {
					t.Error("the capability is lost")
				}
				if u := r.AsUser["capable"]; u.UID != 1000 || u.EUID != 1000 || u.Effective != "0000000000000001" {
					t.Errorf("program with a capability of user 1000: %+v", u)
				}
				for file, want := range map[string]string{
					"/etc/file": "from the image", "/home/vcap": "vcap's", "/etc/hosts": "gdn's hosts", "/tmp/garden-init": "gdn's init",
				} {
					if got := r.Files[file].Text; got != want {
						t.Errorf("%s reads %q, want %q", file, got, want)
					}
				}
				// A project's directories count, and what was copied up.
				if limit > 0 && (r.Full < limit-64<<10 || r.Full > limit+128<<10) {
					t.Errorf("the disk was full after %d bytes, the limit being %d", r.Full, limit)
				}
			})
		}
	}
}

// What the container leaves is nothing to a delete.
func TestDeleteAfterRun(t *testing.T) {
	h := newHost(t, guardian)
	root, env := h.create("h")
	h.run("h", root, env, guardian)
	out, code := h.plugin("stats", "h")
	if code != 0 || !strings.Contains(out, "exclusive_bytes_used") {
		t.Errorf("stats: exit %d: %s", code, out)
	}
	if out, code := h.plugin("delete", "h"); code != 0 {
		t.Errorf("delete: exit %d: %s", code, out)
	}
	h.nothingLeft()
}
