// Inside is what the test's containers run: it tells how the root file system
// looks from in there, as JSON.
package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

type file struct {
	UID, GID   uint32
	Mode       uint32 // permissions and set-id bits
	Capability bool   // the file has one
	Text       string
}

// power is what a program may do that user 1000 runs.
type power struct {
	UID, EUID int
	Effective string // capabilities, in hex
}

type report struct {
	AsUser map[string]power
	UID    int
	Env    []string
	Files  map[string]file
	Wrote  string // the error of writing /etc/file and /home/new, or ""
	Full   int64  // bytes written until the disk was full, or below 0
}

func main() {
	switch filepath.Base(os.Args[0]) {
	case "setuid", "capable":
		json.NewEncoder(os.Stdout).Encode(self())
		return
	}
	r := report{UID: os.Getuid(), Env: os.Environ(), Files: map[string]file{}, Full: -1}
	for _, name := range []string{"/", "/etc/file", "/home/vcap", "/etc/hosts", "/tmp/garden-init", "/bin/setuid", "/bin/capable"} {
		var st syscall.Stat_t
		if err := syscall.Lstat(name, &st); err != nil {
			continue
		}
		text, _ := os.ReadFile(name)
		if len(text) > 1<<10 {
			text = nil // a program
		}
		n, _ := syscall.Getxattr(name, "security.capability", make([]byte, 64))
		r.Files[name] = file{st.Uid, st.Gid, st.Mode & 0o7777, n > 0, string(text)}
	}
	err := errors.Join(os.WriteFile("/etc/file", []byte("changed"), 0o644), os.WriteFile("/home/new", nil, 0o644),
		os.Chown("/home/new", 1000, 1000), os.Rename("/home/vcap", "/home/moved"))
	if err != nil {
		r.Wrote = err.Error()
	}
	if len(os.Args) > 1 && os.Args[1] == "fill" {
		r.Full = fill()
	}
	r.AsUser = map[string]power{}
	for _, name := range []string{"setuid", "capable"} {
		cmd := exec.Command("/bin/" + name)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
		var p power
		if out, err := cmd.Output(); err == nil {
			json.Unmarshal(out, &p)
			r.AsUser[name] = p
		}
	}
	json.NewEncoder(os.Stdout).Encode(r)
}

func self() power {
	status, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(status), "CapEff:\t")
	caps, _, _ := strings.Cut(rest, "\n")
	return power{os.Getuid(), os.Geteuid(), caps}
}

func fill() int64 {
	f, err := os.Create("/big")
	if err != nil {
		return -2
	}
	var total int64
	for total < 1<<30 {
		n, err := f.Write(make([]byte, 64<<10))
		total += int64(n)
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) { // ext4 says this of a project
			return total
		}
		if err != nil {
			return -3
		}
	}
	return -4
}
