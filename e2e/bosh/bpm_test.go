package bosh_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"
)

// Limits of the real bpm.
const (
	hookLimit = 30 * time.Second
	stopLimit = 15 * time.Second
)

type volume struct {
	Path            string `yaml:"path"`
	Writable        bool   `yaml:"writable"`
	AllowExecutions bool   `yaml:"allow_executions"`
	MountOnly       bool   `yaml:"mount_only"`
	Shared          bool   `yaml:"shared"`
}

// process is one of bpm.yml, as bpm's documentation has it.
type process struct {
	Name              string            `yaml:"name"`
	Executable        string            `yaml:"executable"`
	Args              []string          `yaml:"args"`
	Env               map[string]string `yaml:"env"`
	AdditionalVolumes []volume          `yaml:"additional_volumes"`
	EphemeralDisk     bool              `yaml:"ephemeral_disk"`
	PersistentDisk    bool              `yaml:"persistent_disk"`
	Hooks             struct {
		PreStart string `yaml:"pre_start"`
	} `yaml:"hooks"`
	Limits struct {
		OpenFiles uint64 `yaml:"open_files"`
	} `yaml:"limits"`
	Unsafe struct {
		Privileged          bool     `yaml:"privileged"`
		HostPidNamespace    bool     `yaml:"host_pid_namespace"`
		UnrestrictedVolumes []volume `yaml:"unrestricted_volumes"`
	} `yaml:"unsafe"`
}

// processes reads a job's bpm.yml; what bpm does not know is an error.
func processes(file string) ([]process, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Processes []process `yaml:"processes"`
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&doc); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, p := range doc.Processes {
		for _, v := range p.AdditionalVolumes {
			if !strings.HasPrefix(v.Path, "/var/vcap/") || filepath.Clean(v.Path) != v.Path {
				return nil, fmt.Errorf("%s: additional volume %s is not below /var/vcap", file, v.Path)
			}
		}
	}
	return doc.Processes, nil
}

// bpm is a stand-in for bpm that does what bpm does with runc: the same mounts,
// the same /dev, the same device control group, user and capabilities.
func bpm(args []string) error {
	if len(args) != 2 && (len(args) != 4 || args[2] != "-p") {
		return errors.New("want start|stop JOB [-p PROCESS]")
	}
	job, name := args[1], args[1]
	if len(args) == 4 {
		name = args[3]
	}
	list, err := processes("/var/vcap/jobs/" + job + "/config/bpm.yml")
	if err != nil {
		return err
	}
	for _, p := range list {
		if p.Name != name {
			continue
		}
		c := container{job: job, p: p}
		if args[0] == "stop" {
			return c.stop()
		}
		return c.start()
	}
	return fmt.Errorf("bpm.yml of %s has no process %s", job, name)
}

type container struct {
	job string
	p   process
}

func (c container) pidFile() string {
	return filepath.Join("/var/vcap/sys/run/bpm", c.job, c.p.Name+".pid")
}

func (c container) bundle() string {
	return filepath.Join("/var/vcap/data/bpm/bundles", c.job, c.p.Name)
}

func (c container) id() string { return "bpm-" + c.job + "-" + c.p.Name }

func (c container) runc(args ...string) *exec.Cmd {
	return exec.Command("runc", append([]string{"--root", "/var/vcap/data/bpm/runc"}, args...)...)
}

func (c container) start() error {
	// What a crash has left.
	if err := c.runc("delete", "--force", c.id()).Run(); err != nil {
		return fmt.Errorf("delete what is left: %w", err)
	}
	owner := vcap
	if c.p.Unsafe.Privileged {
		owner = 0
	}
	data, store := "/var/vcap/data/"+c.job, "/var/vcap/store/"+c.job
	logs := "/var/vcap/sys/log/" + c.job
	dirs := []string{logs, "/var/vcap/sys/run/" + c.job, data + "/tmp"}
	if c.p.EphemeralDisk {
		dirs = append(dirs, data)
	}
	if c.p.PersistentDisk {
		if _, err := os.Stat("/var/vcap/store"); err != nil {
			return errors.New("requested persistent disk does not exist")
		}
		dirs = append(dirs, store)
	}
	for _, v := range c.p.AdditionalVolumes {
		if v.Shared {
			if err := share(v.Path); err != nil {
				return err
			}
		}
		if !v.MountOnly {
			dirs = append(dirs, v.Path)
		}
	}
	for _, d := range dirs {
		if err := errors.Join(os.MkdirAll(d, 0o700), os.Chown(d, owner, owner)); err != nil {
			return err
		}
	}
	stdout, err := os.OpenFile(filepath.Join(logs, c.p.Name+".stdout.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer stdout.Close()
	stderr, err := os.OpenFile(filepath.Join(logs, c.p.Name+".stderr.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer stderr.Close()
	if c.p.Hooks.PreStart != "" {
		ctx, cancel := context.WithTimeout(context.Background(), hookLimit)
		defer cancel()
		hook := exec.CommandContext(ctx, c.p.Hooks.PreStart)
		hook.Env, hook.Stdout, hook.Stderr = c.environment(), stdout, stderr
		if err := hook.Run(); err != nil {
			return fmt.Errorf("prestart hook failed: %w", err)
		}
	}
	text, err := json.Marshal(c.spec())
	if err != nil {
		return err
	}
	pids := filepath.Dir(c.pidFile())
	if err := errors.Join(os.MkdirAll(filepath.Join(c.bundle(), "rootfs"), 0o755), os.MkdirAll(pids, 0o755),
		os.WriteFile(filepath.Join(c.bundle(), "config.json"), text, 0o600)); err != nil {
		return err
	}
	run := c.runc("run", "--detach", "--pid-file", c.pidFile(), "--bundle", c.bundle(), c.id())
	run.Stdout, run.Stderr = stdout, stderr
	return run.Run()
}

// share makes a directory a mount whose mounts are seen on both sides.
func share(dir string) error {
	if exec.Command("mountpoint", "-q", dir).Run() != nil {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("share %s: %w", dir, err)
		}
	}
	return unix.Mount("", dir, "", unix.MS_SHARED, "")
}

func (c container) environment() []string {
	env := []string{
		"TMPDIR=/var/vcap/data/" + c.job + "/tmp", "LANG=en_US.UTF-8", "HOME=/var/vcap/data/" + c.job,
		"PATH=/var/vcap/jobs/" + c.job + "/bin:/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin:.",
	}
	for k, v := range c.p.Env {
		env = append(env, k+"="+v)
	}
	return env
}

func (c container) spec() specs.Spec {
	private := func(more ...string) []string { return append([]string{"nosuid", "noexec"}, more...) }
	s := specs.Spec{
		Version: "1.0.2",
		Root:    &specs.Root{Path: "rootfs"},
		Process: &specs.Process{
			Args: append([]string{tiniPath, "-w", "-s", "--", c.p.Executable}, c.p.Args...), Env: c.environment(), Cwd: "/var/vcap/jobs/" + c.job,
			NoNewPrivileges: !c.p.Unsafe.Privileged, User: specs.User{UID: vcap, GID: vcap},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: private("mode=755")},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: private("newinstance", "ptmxmode=0666", "mode=0620", "gid=5")},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: private("nodev", "mode=1777")},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: private("nodev", "ro")},
		},
		Linux: &specs.Linux{
			Resources: &specs.LinuxResources{}, RootfsPropagation: "private",
			CgroupsPath: cgroup(c.id()),
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.IPCNamespace}, {Type: specs.MountNamespace}, {Type: specs.UTSNamespace},
			},
		},
	}
	if !c.p.Unsafe.HostPidNamespace {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.PIDNamespace})
	}
	bind := func(from, to string, options ...string) {
		options = append(options, "rbind", "nodev")
		if !c.p.Unsafe.Privileged {
			options = append(options, "nosuid")
		}
		s.Mounts = append(s.Mounts, specs.Mount{Destination: to, Source: from, Type: "bind", Options: options})
	}
	for _, dir := range []string{"/bin", "/etc", "/lib", "/lib64", "/sbin", "/usr", "/var/vcap/packages", "/var/vcap/data/packages", "/var/vcap/jobs/" + c.job} {
		bind(dir, dir, "ro", "exec")
	}
	data := "/var/vcap/data/" + c.job
	bind(data+"/tmp", "/tmp", "rw", "noexec")
	bind("/var/vcap/sys/log/"+c.job, "/var/vcap/sys/log/"+c.job, "rw", "noexec")
	if c.p.EphemeralDisk {
		bind(data, data, "rw", "noexec")
	}
	if c.p.PersistentDisk {
		bind("/var/vcap/store/"+c.job, "/var/vcap/store/"+c.job, "rw", "noexec")
	}
	for _, v := range append(c.p.AdditionalVolumes, c.p.Unsafe.UnrestrictedVolumes...) {
		options := []string{"noexec"}
		if v.AllowExecutions {
			options[0] = "exec"
		}
		if !v.Writable {
			options = append(options, "ro")
		}
		bind(v.Path, v.Path, options...)
	}
	if c.p.Unsafe.Privileged {
		s.Process.User = specs.User{}
		s.Process.Capabilities = allCapabilities()
	}
	if n := c.p.Limits.OpenFiles; n > 0 {
		var have unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_NOFILE, &have) == nil {
			n = min(n, have.Max) // no more than this machine may give
		}
		s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: n, Soft: n}}
	}
	return s
}

// cgroup names a control group of this run: process ids are not unique here, in
// a PID namespace, but the mount namespace is.
func cgroup(name string) string {
	namespace, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return "/rootstock-" + name
	}
	return "/rootstock-" + strings.Trim(namespace, "mnt:[]") + "-" + name
}

// allCapabilities are those that this process has, of all there are.
func allCapabilities() *specs.LinuxCapabilities {
	names := strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
		NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE
		SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL
		SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ`)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil
	}
	_, rest, _ := strings.Cut(string(status), "CapEff:\t")
	hex, _, _ := strings.Cut(rest, "\n")
	have, err := strconv.ParseUint(hex, 16, 64)
	if err != nil {
		return nil
	}
	var all []string
	for bit, name := range names {
		if have&(1<<bit) != 0 {
			all = append(all, "CAP_"+name)
		}
	}
	return &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
}

func (c container) stop() error {
	defer os.Remove(c.pidFile())
	if _, err := os.Stat(c.pidFile()); err != nil {
		return nil //nolint:nilerr // it does not run
	}
	if err := c.runc("kill", c.id(), "TERM").Run(); err != nil {
		return fmt.Errorf("tell %s to end: %w", c.id(), err)
	}
	for end := time.Now().Add(stopLimit); ; time.Sleep(20 * time.Millisecond) {
		state, err := c.runc("state", c.id()).Output()
		if err == nil && bytes.Contains(state, []byte(`"status": "stopped"`)) {
			return c.runc("delete", "--force", c.id()).Run()
		}
		if time.Now().After(end) {
			return errors.Join(fmt.Errorf("%s did not end within %v of being told to", c.id(), stopLimit), c.runc("delete", "--force", c.id()).Run())
		}
	}
}
