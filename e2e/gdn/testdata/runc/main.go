// Command runc is runc for machines on which nobody has all the capabilities
// that gdn gives to privileged containers. It takes those out of the documents
// of containers and processes, and becomes the runc that GDN_RUNC names.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// numbers are those of the capabilities that may be missing.
var numbers = map[string]int{
	"CAP_SYS_MODULE": 16, "CAP_SYS_RAWIO": 17, "CAP_SYS_PACCT": 20, "CAP_SYS_BOOT": 22, "CAP_SYS_RESOURCE": 24,
	"CAP_SYS_TIME": 25, "CAP_MAC_OVERRIDE": 32, "CAP_MAC_ADMIN": 33, "CAP_SYSLOG": 34, "CAP_WAKE_ALARM": 35,
	"CAP_BLOCK_SUSPEND": 36, "CAP_AUDIT_READ": 37,
}

func main() {
	args := slices.Clone(os.Args)
	if err := edit(args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	err := syscall.Exec(os.Getenv("GDN_RUNC"), args, os.Environ())
	fmt.Fprintln(os.Stderr, "GDN_RUNC:", err)
	os.Exit(1)
}

// edit changes the documents that args name, and args where one has moved.
func edit(args []string) error {
	missing, err := missing()
	if err != nil || len(missing) == 0 {
		return err
	}
	for i := range len(args) - 1 {
		switch args[i] {
		case "--bundle":
			path := filepath.Join(args[i+1], "config.json")
			text, err := without(path, missing)
			if err != nil {
				return err
			}
			if err := os.WriteFile(path, text, 0o600); err != nil {
				return err
			}
		case "-p": // another process' standard input, to be read once
			text, err := without(args[i+1], missing)
			if err != nil {
				return err
			}
			fd, err := unix.MemfdCreate("process", 0)
			if err != nil {
				return err
			}
			if _, err := unix.Write(fd, text); err != nil {
				return err
			}
			args[i+1] = fmt.Sprintf("/proc/self/fd/%d", fd)
		}
	}
	return nil
}

// missing returns the capabilities out of numbers that cannot be had.
func missing() ([]any, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	_, rest, _ := strings.Cut(string(text), "CapBnd:\t")
	word, _, _ := strings.Cut(rest, "\n")
	bounding, err := strconv.ParseUint(word, 16, 64)
	if err != nil {
		return nil, err
	}
	var names []any
	for name, n := range numbers {
		if bounding&(1<<n) == 0 {
			names = append(names, name)
		}
	}
	return names, nil
}

// without returns the document at path without these capabilities.
func without(path string, missing []any) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	process := doc
	if p, ok := doc["process"].(map[string]any); ok {
		process = p
	}
	sets, _ := process["capabilities"].(map[string]any)
	for name, set := range sets {
		if list, ok := set.([]any); ok {
			sets[name] = slices.DeleteFunc(list, func(c any) bool { return slices.Contains(missing, c) })
		}
	}
	return json.Marshal(doc)
}
