package fault_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// loadConfig makes this program one that uses trees while their cell is killed:
// a process of its own, since its threads stand still when the cell does.
const loadConfig = "ROOTSTOCK_FAULT_LOAD"

// load is what it uses.
type load struct {
	Roots   []string // trees with the files below
	Warm    []string // files that are read again and again
	Program string   // one of them, executed
	Dir     string   // listed
}

// used is what came of it.
type used struct {
	Operations int
	Errors     []string
	Longest    time.Duration // an operation took at most
	What       string        // the longest one
}

type user struct {
	load
	mu   sync.Mutex
	used used
}

// content is that of a file, by its path in the tree.
func content(path string) []byte {
	size := 3000
	switch {
	case strings.HasSuffix(path, "large"):
		size = 3 << 20
	case strings.HasPrefix(path, "warm/"):
		size = 40_000
	}
	var seed [32]byte
	copy(seed[:], path)
	b := make([]byte, size)
	rand.NewChaCha8(seed).Read(b)
	return b
}

// runLoad uses trees until its input ends. A line "read PATH..." has it read files
// and say so.
func runLoad(config string) int {
	var u user
	if err := json.Unmarshal([]byte(config), &u.load); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, root := range u.Roots {
		for _, use := range []func(string) (string, error){u.read, u.read, u.walk, u.execute, u.mapped} {
			all.Go(func() {
				debug.SetPanicOnFault(true)
				for ctx.Err() == nil {
					u.time(root, use)
				}
			})
		}
	}
	fmt.Println("ready")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var some sync.WaitGroup
		for _, path := range strings.Fields(in.Text())[1:] {
			some.Go(func() {
				u.time(path, func(path string) (string, error) {
					for _, root := range u.Roots {
						if rel, ok := strings.CutPrefix(path, root+"/"); ok {
							return path, same(path, content(rel))
						}
					}
					return path, fmt.Errorf("not below a root")
				})
			})
		}
		some.Wait()
		fmt.Println("read")
	}
	cancel()
	all.Wait()
	json.NewEncoder(os.Stdout).Encode(&u.used)
	return 0
}

func (u *user) time(arg string, use func(string) (string, error)) {
	began := time.Now()
	what, err := func() (what string, err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("%v", p)
			}
		}()
		return use(arg)
	}()
	took := time.Since(began)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.used.Operations++
	if err != nil && len(u.used.Errors) < 20 {
		u.used.Errors = append(u.used.Errors, what+": "+err.Error())
	}
	if took > u.used.Longest {
		u.used.Longest, u.used.What = took, what
	}
}

// same reads a file past the page cache.
func same(path string, want []byte) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	for errors.Is(err, unix.EINTR) { // the Go runtime's signals interrupt it, as package os knows
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
	got := make([]byte, 0, len(want)+1)
	for len(got) <= len(want) {
		n, err := unix.Pread(fd, got[len(got):cap(got)], int64(len(got)))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("at %d: %w", len(got), err)
		}
		if n == 0 {
			break
		}
		got = got[:len(got)+n]
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("wrong content, %d bytes", len(got))
	}
	return nil
}

func (u *user) read(root string) (string, error) {
	rel := u.Warm[rand.IntN(len(u.Warm))]
	return "read " + root + "/" + rel, same(filepath.Join(root, rel), content(rel))
}

func (u *user) walk(root string) (string, error) {
	dir := filepath.Join(root, u.Dir)
	list, err := os.ReadDir(dir)
	if err == nil && len(list) != len(u.Warm) {
		err = fmt.Errorf("%d entries", len(list))
	}
	for _, e := range list {
		if err == nil {
			_, err = e.Info()
		}
	}
	return "list " + dir, err
}

// execute runs a program whose pages have to come again.
func (u *user) execute(root string) (string, error) {
	path := filepath.Join(root, u.Program)
	if fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
		unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
		unix.Close(fd)
	}
	out, err := exec.Command(path, "a", "b").CombinedOutput()
	if err == nil && string(out) != "a b\n" {
		err = fmt.Errorf("it said %q", out)
	}
	return "execute " + path, err
}

// mapped looks at pages of a mapped file.
func (u *user) mapped(root string) (string, error) {
	path := filepath.Join(root, "mapped/large")
	f, err := os.Open(path)
	if err != nil {
		return "map " + path, err
	}
	defer f.Close()
	fd := int(f.Fd())
	unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
	want := content("mapped/large")
	m, err := unix.Mmap(fd, 0, len(want), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return "map " + path, err
	}
	defer unix.Munmap(m)
	for range 20 {
		at := rand.IntN(len(m))
		if m[at] != want[at] {
			return "map " + path, fmt.Errorf("wrong byte at %d", at)
		}
	}
	return "map " + path, nil
}

func coldPath(kind string, n int) string { return "cold-" + kind + "/" + strconv.Itoa(n) }
