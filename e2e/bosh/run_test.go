package bosh_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/rootfsprovider"
)

const (
	plugin = "/var/vcap/packages/rootstock/bin/rootstock-plugin"
	shown  = "/var/vcap/data/rootstock-mounts/cvmfs/" + repository
)

// grootfs stands for that of garden-runc-release: it notes how it is called,
// and answers create as grootfs does.
const grootfs = `#!/bin/sh
echo "$@" >>/var/vcap/data/grootfs.calls
case "$*" in *" create "*) echo '{"ociVersion":"1.0.2","root":{"path":"/var/vcap/data/grootfs/rootfs"}}';; esac
`

// The release on one machine, as BOSH would run it: a stratum 0, a cell that
// mounts it by the link, containers through the rendered plugin's
// configurations, a daemon and a holder that die, a drain, a stop.
func TestDeployment(t *testing.T) {
	t.Parallel()
	compile(t)
	installBPM(t)
	// Where with-devices goes with cgroup v2.
	t.Cleanup(func() { os.Remove("/sys/fs/cgroup/rootstock-cell") })
	cellJob, gardenJob := cellJob(t), gardenJob()
	// Nothing is fetched before a container asks: reads have to find it missing.
	merge(cellJob.properties, m{"refresh": "1s", "fill": "0", "droplets": m{"rate": "1GiB", "after": "100ms"}})
	merge(cellJob.link.properties, listedOnly())
	gardenJob.link = cellJob.link
	merge(gardenJob.properties, m{"stacks": m{"hello": "cvmfs://" + repository + "/rootfs/hello", "listed": "cvmfs://" + repository + "/rootfs/listed@1"}})

	// The server, and something to serve.
	deploy(t, cellJob.link)
	publish(t)

	// The cell.
	deploy(t, cellJob)
	if _, err := os.Stat(shown + "/rootfs/hello/1/inside"); err != nil {
		t.Fatalf("outside bpm's container: %v\n%s", err, logs("rootstock-cell"))
	}
	if said := logs("rootstock-cell"); strings.Contains(said, "read in small steps") {
		t.Errorf("the kernel was not told to read ahead:\n%s", said)
	}
	s := status(t)
	t.Logf("the cell's tier is %s: %s", s.Tier, s.TierReason)
	if strings.Contains(s.TierReason, "not permitted") {
		t.Errorf("devices are forbidden in bpm's container: %s", s.TierReason)
	}

	// What Garden calls.
	write(t, "/var/vcap/packages/grootfs/bin/grootfs", grootfs, 0o755)
	write(t, "/var/vcap/packages/garden-idmapper/bin/maximus", "#!/bin/sh\necho 4294967294\n", 0o755)
	deploy(t, gardenJob)
	fallbackIsReady(t)
	stacks(t, "hello.tar", "listed.tar")
	privileged := create(t, "privileged", "cvmfs://"+repository+"/rootfs/hello@1")
	privileged.run(t)
	create(t, "unprivileged", "/var/vcap/data/rootfses/hello.tar").run(t)
	synced(t)
	droplet(t)
	if spec := create(t, "unprivileged", "docker:///library/busybox"); spec.root != "/var/vcap/data/grootfs/rootfs" {
		t.Errorf("an image that is not published got %s", spec.root)
	}

	survives(t, privileged)
	crash(t)
	drains(t)
	for _, handle := range []string{"unprivileged", "privileged", "unprivileged-docker"} {
		call(t, strings.TrimSuffix(handle, "-docker"), "delete", handle)
	}
	// The holder first, then the daemon, or so monit believes.
	monit(t, "rootstock-cell", "stop")
	monit(t, "rootstock-stratum0", "stop")
	if said := read(t, "/var/vcap/sys/log/rootstock-cell/rootstock-cell.stderr.log"); strings.Contains(said[strings.LastIndex(said, "msg=draining"):], "holder is gone") {
		t.Errorf("the holder was stopped before the daemon:\n%s", said)
	}
	// bpm's own, and once.
	if left := mounts(t, "/var/vcap/data/rootstock-"); len(left) != 1 || left[0] != "/var/vcap/data/rootstock-mounts" {
		t.Errorf("mounted after the stop: %v", left)
	}
	restart(t, cellJob, gardenJob)
}

// publish publishes a root file system with the job's own command.
func publish(t *testing.T) {
	t.Helper()
	programs := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", programs,
		"../../cmd/rootstock-plugin/testdata/inside", "./testdata/late")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	texts := map[string]string{
		"./etc/file": "as published", "./inside": read(t, programs+"/inside"), "./late": read(t, programs+"/late"),
	}
	headers := []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./etc/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./etc/file", Mode: 0o644},
		{Name: "./home/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./home/vcap/", Typeflag: tar.TypeDir, Mode: 0o755, Uid: vcap, Gid: vcap},
		{Name: "./proc/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./inside", Mode: 0o755},
		{Name: "./late", Mode: 0o755},
	}
	for i := range lateFiles {
		name, contents := lateFile(i)
		texts["."+name] = string(contents)
		headers = append(headers, tar.Header{Name: "." + path.Dir(name) + "/", Typeflag: tar.TypeDir, Mode: 0o755}, tar.Header{Name: "." + name, Mode: 0o644})
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		text := texts[h.Name]
		h.Size = int64(len(text))
		must(t, w.WriteHeader(&h))
		_, err := w.Write([]byte(text))
		must(t, err)
	}
	must(t, w.Close())
	write(t, "/var/vcap/data/hello.tar", b.String(), 0o644)
	command(t, "/var/vcap/jobs/rootstock-stratum0/bin/rootstock", "publish", "rootfs", "hello", "1", "/var/vcap/data/hello.tar")
	if said := command(t, "/var/vcap/jobs/rootstock-stratum0/bin/rootstock", "ls"); !strings.Contains(said, "hello") {
		t.Errorf("ls says %q", said)
	}
	var st unix.Stat_t
	must(t, unix.Stat("/var/vcap/store/rootstock-stratum0/"+repository+"/.cvmfspublished", &st))
	if st.Uid != vcap {
		t.Errorf("what was published belongs to user %d: the server could not change it", st.Uid)
	}
}

func status(t *testing.T) (s cell.Status) {
	t.Helper()
	text := command(t, "/var/vcap/packages/rootstock/bin/rootstock-cell", "status", "--json", "--socket", "/var/vcap/data/rootstock-cell/cell.sock")
	must(t, json.Unmarshal([]byte(text), &s))
	return s
}

// fallbackIsReady looks how grootfs was made ready: each store once, the one of
// unprivileged containers with Guardian's mapping.
func fallbackIsReady(t *testing.T) {
	t.Helper()
	const config = "--config /var/vcap/jobs/garden/config/"
	var calls []string
	for line := range strings.Lines(read(t, "/var/vcap/data/grootfs.calls")) {
		if !strings.Contains(line, " delete ") {
			calls = append(calls, strings.TrimSpace(line))
		}
	}
	want := []string{
		config + "grootfs_config.yml init-store --uid-mapping 0:4294967294:1 --uid-mapping 1:1:4294967293 --gid-mapping 0:4294967294:1 --gid-mapping 1:1:4294967293",
		config + "grootfs_config.yml generate-volume-size-metadata",
		config + "privileged_grootfs_config.yml init-store",
		config + "privileged_grootfs_config.yml generate-volume-size-metadata",
	}
	if strings.Join(calls, "\n") != strings.Join(want, "\n") {
		t.Errorf("grootfs was called with\n%s\nwant\n%s", strings.Join(calls, "\n"), strings.Join(want, "\n"))
	}
}

// stacks looks that these are all the stacks that rep finds in its default
// extra_root_fs_dir: a tar each, with the entry that rep looks for.
func stacks(t *testing.T, want ...string) {
	t.Helper()
	const dir = "/var/vcap/data/rootfses/"
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("rep finds %v, want %v", got, want)
	}
	for _, name := range want {
		if said := command(t, "tar", "-tf", dir+name); !strings.Contains(said, "./etc/stack-version\n") {
			t.Errorf("%s holds %q", name, said)
		}
	}
}

// call is a call of Garden's.
func call(t *testing.T, kind string, args ...string) string {
	t.Helper()
	out, errs, err := bounded(t, time.Minute, append([]string{plugin, "--config", "/var/vcap/jobs/rootstock-garden/config/" + kind + ".json"}, args...)...)
	if err != nil {
		t.Fatalf("%s %v: %v\n%s%s%s", kind, args, err, out, errs, logs("rootstock-cell"))
	}
	return out
}

// made is a container's root.
type made struct {
	kind, handle, root string
}

func create(t *testing.T, kind, uri string) made {
	t.Helper()
	handle := kind
	if strings.HasPrefix(uri, "docker:") {
		handle += "-docker"
	}
	var doc struct{ Root struct{ Path string } }
	must(t, json.Unmarshal([]byte(call(t, kind, "create", uri, handle)), &doc))
	return made{kind, handle, doc.Root.Path}
}

// run starts the container with runc and a configuration like gdn's.
func (c made) run(t *testing.T) {
	t.Helper()
	out, errs, err := bounded(t, time.Minute, append([]string{"runc"}, c.bundle(t, "/inside")...)...)
	if err != nil {
		t.Fatalf("runc: %v\n%s%s%s", err, errs, out, logs("rootstock-cell"))
	}
	var r struct {
		UID   int
		Files map[string]struct {
			UID  uint32
			Text string
		}
		Wrote string
	}
	must(t, json.Unmarshal([]byte(out), &r))
	if r.UID != 0 || r.Wrote != "" || r.Files["/etc/file"].Text != "as published" || r.Files["/home/vcap"].UID != vcap {
		t.Errorf("in the %s container: %s", c.kind, out)
	}
}

// bundle makes what runc needs and returns its arguments.
func (c made) bundle(t *testing.T, args ...string) []string {
	t.Helper()
	caps := []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETUID", "CAP_SETGID"}
	spec := specs.Spec{
		Version: "1.0.2", Root: &specs.Root{Path: c.root}, Hostname: c.handle,
		Process: &specs.Process{
			Args: args, Cwd: "/", Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755"}},
			{Destination: "/etc/hosts", Type: "bind", Source: "/etc/hosts", Options: []string{"bind", "ro"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: cgroup(c.handle),
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
			},
		},
	}
	conf, err := rootfsprovider.ReadConfig("/var/vcap/jobs/rootstock-garden/config/" + c.kind + ".json")
	must(t, err)
	for _, r := range conf.UIDMaps {
		ids := specs.LinuxIDMapping{ContainerID: r.Container, HostID: r.Host, Size: r.Size}
		spec.Linux.UIDMappings = append(spec.Linux.UIDMappings, ids)
		spec.Linux.GIDMappings = append(spec.Linux.GIDMappings, ids)
	}
	if len(conf.UIDMaps) > 0 {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	}
	text, err := json.Marshal(spec)
	must(t, err)
	bundle := filepath.Join("/var/vcap/data/garden/depot", c.handle)
	write(t, filepath.Join(bundle, "config.json"), string(text), 0o644)
	return []string{"--root", bundle + "/state", "run", "--bundle", bundle, c.handle}
}

// drains looks that drain waits for rep, and for containers, but for neither
// longer than it may, and that it says the one number that BOSH reads.
func drains(t *testing.T) {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	must(t, err)
	write(t, "/var/vcap/data/rep", read(t, sleep), 0o755)
	start := func(seconds string) *exec.Cmd {
		rep := exec.Command("/var/vcap/data/rep", seconds)
		must(t, rep.Start())
		return rep
	}
	drain := func() {
		t.Helper()
		if said := script(t, "rootstock-cell", "drain", drainLimit); said != "0\n" {
			t.Errorf("drain said %q", said)
		}
	}

	// rep goes in time; containers, of which there are two, do not.
	write(t, "/var/vcap/jobs/rootstock-cell/config/job.yml", "drain_timeout: 3\n", 0o640)
	rep := start("0.5")
	ended := make(chan error, 1)
	go func() { ended <- rep.Wait() }()
	drain()
	select {
	case <-ended:
	case <-time.After(100 * time.Millisecond):
		t.Error("drain did not wait for rep")
	}
	log := read(t, "/var/vcap/sys/log/rootstock-cell/drain.log")
	if !strings.Contains(log, "containers are left") || !status(t).Draining {
		t.Errorf("draining with two containers: %v\n%s", status(t).Draining, log)
	}

	// rep does not go.
	write(t, "/var/vcap/jobs/rootstock-cell/config/job.yml", "drain_timeout: 1\n", 0o640)
	rep = start("600")
	drain()
	must(t, rep.Process.Kill())
	rep.Wait()
	if log := read(t, "/var/vcap/sys/log/rootstock-cell/drain.log"); !strings.Contains(log, "rep is still there after 1 s") {
		t.Error(log)
	}
}

// restart starts what was stopped, once more without its directories, as after
// the VM was made anew, and with the daemon not there drains it.
func restart(t *testing.T, job, garden *instance) {
	t.Helper()
	if said := script(t, "rootstock-cell", "drain", drainLimit); said != "0\n" {
		t.Errorf("drain of a daemon that does not run said %q", said)
	}
	must(t, unix.Unmount("/var/vcap/data/rootstock-mounts", 0))
	must(t, os.RemoveAll("/var/vcap/data/rootstock-mounts"))
	must(t, os.RemoveAll("/var/vcap/data/rootstock-cell"))
	// The release key was made anew, too: both count until the next deploy.
	again := key(t, "release again")
	merge(job.link.properties, m{"release_key": m{"certificate": again.certificate, "private_key": again.private}})
	// From here on only who has a certificate is let in, and the cell says what it runs.
	registry, publishes := team(t)
	merge(job.link.properties, publishes)
	merge(job.link.properties, m{"tls": mutual(t)})
	fleet := certificate(t, "fleet")
	merge(job.properties, m{"ca": fleet["ca"], "client": certificate(t, "cell"), "fleet": m{"tls": fleet}})
	deploy(t, job.link)
	if said := logs("rootstock-stratum0"); strings.Contains(said, "no cell will take") {
		t.Error(said)
	}
	deploy(t, job)
	if s := status(t); len(s.Repositories) != 1 || s.Repositories[0].Untrusted != "" {
		t.Errorf("after a change of the release key: %+v", s)
	}
	if _, err := os.Stat(shown + "/rootfs/hello/1/inside"); err != nil {
		t.Errorf("over mutual TLS: %v\n%s", err, logs("rootstock-cell"))
	}
	const address, config = "https://127.0.0.1:", "/var/vcap/jobs/rootstock-cell/config/"
	ca := []string{"curl", "-sSf", "--noproxy", "*", "--cacert", config + "ca.pem"}
	for url, cert := range map[string]string{
		address + "8000/cvmfs/" + repository + "/.cvmfspublished": "client", address + "9869/containers": "fleet",
	} {
		if out, _, err := bounded(t, time.Minute, append(ca, url)...); err == nil {
			t.Errorf("%s lets in who has no certificate: %q", url, out)
		}
		out, errs, err := bounded(t, time.Minute, append(ca, "--cert", config+cert+".crt", "--key", config+cert+".key", url)...)
		if err != nil || cert == "fleet" && !strings.Contains(out, `"cell/5a1a2ffe-0000-4000-8000-000000000000"`) {
			t.Errorf("%s says %q, %v: %s", url, out, err, errs)
		}
	}
	onDemand(t, garden, registry)
	monit(t, "rootstock-cell", "stop", "rootstock-cell", "rootstock-holder")
	if left := mounts(t, "/var/vcap/data/rootstock-"); len(left) != 1 {
		t.Errorf("mounted after the daemon stopped, then the holder: %v", left)
	}
	monit(t, "rootstock-stratum0", "stop")
}
