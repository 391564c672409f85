// Package overlay mounts a container's root: read-only layers below, the
// container's write layer above, the lower ones shown with the ids of the
// container's user namespace where it has one.
//
// Everything is done with system calls on file descriptors and absolute paths;
// nothing is parsed out of /proc/mounts and no program is run.
package overlay

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Layers are what an overlay is made of. Paths are absolute.
type Layers struct {
	Lower   []string // topmost first
	Data    []string // data-only layers below Lower, kernel 6.5 and later
	Upper   string   // the write layer; without one nothing can be written
	Work    string   // on the same file system as Upper, empty
	Options []string // further mount options: key=value or a bare key
}

// param is one option of the mount. A path goes to the kernel as a descriptor
// or a string, whichever it takes.
type param struct {
	key, value string
	path       bool
}

func (l Layers) params() []param {
	var ps []param
	for _, dir := range l.Lower {
		ps = append(ps, param{"lowerdir+", dir, true})
	}
	for _, dir := range l.Data {
		ps = append(ps, param{"datadir+", dir, true})
	}
	if l.Upper != "" {
		ps = append(ps, param{"upperdir", l.Upper, true}, param{"workdir", l.Work, true})
	}
	for _, o := range l.Options {
		key, value, _ := strings.Cut(o, "=")
		ps = append(ps, param{key, value, false})
	}
	return ps
}

// way is how an overlay is described to the kernel.
type way int

const (
	byDescriptor way = iota // fsconfig, layers as descriptors: kernel 6.13
	byString                // fsconfig, one string per layer: kernel 6.7
	byMount                 // mount(2), all layers in one page
)

var (
	// errWay reports that the kernel does not know a way.
	errWay = errors.New("not known to this kernel")
	// errOneByOne is the errWay of kernels before 6.5, where fsconfig collects
	// a string for mount(2). That takes any option, and refuses them all in
	// the end.
	errOneByOne = fmt.Errorf("options one by one are %w", errWay)
	// errNoData is of the same kernels. mount(2) would say EINVAL.
	errNoData = errors.New("data-only layers are not known to this kernel")
)

// Mount mounts the overlay at target, an existing directory. Layers' paths may
// hold any byte and have any length where the kernel takes them one by one
// (6.7 and later); before, they share one page.
func Mount(l Layers, target string) error {
	var err error
	for _, w := range []way{byDescriptor, byString, byMount} {
		if w == byString && errors.Is(err, errOneByOne) {
			continue
		}
		if err = mountBy(w, l, target); !errors.Is(err, errWay) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("overlay %s: %w", target, err)
	}
	return nil
}

func mountBy(w way, l Layers, target string) error {
	if w == byMount {
		return mountOld(l, target)
	}
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENOSYS) {
		return errWay
	}
	if err != nil {
		return fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fs) //nolint:errcheck // configures only
	for i, p := range l.params() {
		err := set(w, fs, p)
		// The first one, a lower layer, is where kernels differ. A descriptor
		// that only names a directory was none to fsconfig before 6.13.
		if i == 0 && (errors.Is(err, unix.EINVAL) || w == byDescriptor && errors.Is(err, unix.EBADF)) {
			return errWay
		}
		if i == 0 && errors.Is(err, unix.EOPNOTSUPP) {
			if len(l.Data) > 0 {
				return errNoData
			}
			return errOneByOne
		}
		if err != nil {
			return explain(fs, fmt.Errorf("%s=%s: %w", p.key, p.value, err))
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return explain(fs, err)
	}
	m, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return explain(fs, fmt.Errorf("fsmount: %w", err))
	}
	defer unix.Close(m) //nolint:errcheck // the mount is attached or goes away
	if err := unix.MoveMount(m, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount: %w", err)
	}
	return nil
}

// maxString is the longest string fsconfig takes, without its terminator.
const maxString = 255

func set(w way, fs int, p param) error {
	switch {
	case !p.path && p.value == "":
		return unix.FsconfigSetFlag(fs, p.key)
	case !p.path:
		return unix.FsconfigSetString(fs, p.key, p.value)
	case w == byString && len(p.value) <= maxString:
		v := p.value
		if p.key == "upperdir" || p.key == "workdir" { // only these are unescaped
			v = strings.ReplaceAll(v, `\`, `\\`)
		}
		if len(v) <= maxString {
			return unix.FsconfigSetString(fs, p.key, v)
		}
	}
	fd, err := unix.Open(p.value, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // the overlay has its own reference
	if w == byString {
		return unix.FsconfigSetString(fs, p.key, fmt.Sprintf("/proc/self/fd/%d", fd))
	}
	return unix.FsconfigSetFd(fs, p.key, fd)
}

// mountOld gives everything to mount(2) as one string of at most a page.
func mountOld(l Layers, target string) error {
	lower := make([]string, len(l.Lower))
	for i, dir := range l.Lower {
		lower[i] = escape(dir)
	}
	all := strings.Join(lower, ":")
	for _, dir := range l.Data {
		all += "::" + escape(dir)
	}
	options := []string{"lowerdir=" + all}
	if l.Upper != "" {
		options = append(options, "upperdir="+escape(l.Upper), "workdir="+escape(l.Work))
	}
	data := strings.Join(append(options, l.Options...), ",")
	if len(data) >= unix.Getpagesize() {
		return fmt.Errorf("the layers' paths take %d bytes, more than the page this kernel allows (6.7 and later take any length)", len(data))
	}
	if err := unix.Mount("overlay", target, "overlay", 0, data); err != nil {
		return fmt.Errorf("%s: %w", data, err) // which of it, only the kernel's log says
	}
	return nil
}

var escaper = strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`)

func escape(path string) string { return escaper.Replace(path) }

// explain adds what the kernel wrote into the context's log, which says what
// the error number does not.
func explain(fs int, err error) error {
	buf := make([]byte, 1024)
	for range 16 {
		n, rerr := unix.Read(fs, buf)
		if rerr != nil || n <= 2 {
			break
		}
		err = fmt.Errorf("%w (kernel: %s)", err, strings.TrimSpace(string(buf[2:n])))
	}
	return err
}
