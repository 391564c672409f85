// Inside is what the test's containers run: it tells how the root file system
// looks from in there, as JSON.
package main

import (
	"encoding/json"
	"errors"
	"os"
	"syscall"
)

type file struct {
	UID, GID uint32
	Text     string
}

type report struct {
	UID   int
	Env   []string
	Files map[string]file
	Wrote string // the error of writing /etc/file and /home/new, or ""
	Full  int64  // bytes written until ENOSPC, or -1
}

func main() {
	r := report{UID: os.Getuid(), Env: os.Environ(), Files: map[string]file{}, Full: -1}
	for _, name := range []string{"/", "/etc/file", "/home/vcap", "/etc/hosts", "/tmp/garden-init"} {
		var st syscall.Stat_t
		if err := syscall.Lstat(name, &st); err != nil {
			continue
		}
		text, _ := os.ReadFile(name)
		r.Files[name] = file{st.Uid, st.Gid, string(text)}
	}
	err := errors.Join(os.WriteFile("/etc/file", []byte("changed"), 0o644), os.WriteFile("/home/new", nil, 0o644),
		os.Chown("/home/new", 1000, 1000), os.Rename("/home/vcap", "/home/moved"))
	if err != nil {
		r.Wrote = err.Error()
	}
	if len(os.Args) > 1 && os.Args[1] == "fill" {
		r.Full = fill()
	}
	json.NewEncoder(os.Stdout).Encode(r)
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
		if errors.Is(err, syscall.ENOSPC) {
			return total
		}
		if err != nil {
			return -3
		}
	}
	return -4
}
