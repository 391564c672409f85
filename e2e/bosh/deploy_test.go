package bosh_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// How long BOSH, monit and bpm let things take; pre-start has no bound of
// theirs, and here one of ours.
const (
	preStartLimit  = 2 * time.Minute
	monitLimit     = time.Minute
	postStartLimit = 2 * time.Minute
	drainLimit     = time.Minute
)

// install renders a job to where BOSH puts it, as BOSH does: for root, readable
// by vcap.
func install(t *testing.T, job *instance) {
	t.Helper()
	dir := "/var/vcap/jobs/" + job.job
	must(t, os.RemoveAll(dir))
	must(t, job.render(t, dir))
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := os.FileMode(0o640)
		if d.IsDir() || strings.HasPrefix(path, dir+"/bin/") {
			mode = 0o750
		}
		return errors.Join(os.Chmod(path, mode), os.Chown(path, 0, vcap))
	}))
}

// script runs one of a job's scripts, which must end well in time, and returns
// standard output.
func script(t *testing.T, job, name string, limit time.Duration) string {
	t.Helper()
	out, errs, err := try(t, job, name, limit)
	if err != nil {
		t.Fatalf("%s of %s: %v\n%s%s%s", name, job, err, out, errs, logs(job))
	}
	return out
}

func try(t *testing.T, job, name string, limit time.Duration) (stdout, stderr string, err error) {
	t.Helper()
	return bounded(t, limit, "/var/vcap/jobs/"+job+"/bin/"+name)
}

// bounded runs a command with the environment of BOSH's agent.
func bounded(t *testing.T, limit time.Duration, words ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"}
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	if ctx.Err() != nil {
		err = errors.Join(ctx.Err(), err)
	}
	return out.String(), errs.String(), err
}

// logs are what a job's processes have logged.
func logs(job string) (all string) {
	files, _ := filepath.Glob("/var/vcap/sys/log/" + job + "/*.log")
	for _, f := range files {
		text, _ := os.ReadFile(f)
		all += f + ":\n" + string(text)
	}
	return all
}

var monitEntry = regexp.MustCompile(`check process (\S+)\n(?s:.*?)start program "([^"]+)"(?s:.*?)stop program "([^"]+)"`)

// monit starts or stops processes with what the job's monit file says: all of
// them in its order, or those that are named in that one. The real one has no
// order.
func monit(t *testing.T, job, what string, only ...string) {
	t.Helper()
	programs := map[string]string{}
	var all []string
	for _, e := range monitEntry.FindAllStringSubmatch(read(t, "/var/vcap/jobs/"+job+"/monit"), -1) {
		all = append(all, e[1])
		programs[e[1]] = map[string]string{"start": e[2], "stop": e[3]}[what]
	}
	if len(only) > 0 {
		all = only
	}
	if len(all) == 0 {
		t.Fatalf("monit of %s watches nothing", job)
	}
	for _, name := range all {
		words := strings.Fields(programs[name])
		if len(words) == 0 {
			t.Fatalf("monit of %s has no %s program of %s", job, what, name)
		}
		if out, errs, err := bounded(t, monitLimit, words...); err != nil {
			t.Fatalf("%v: %v\n%s%s%s", words, err, out, errs, logs(job))
		}
	}
}

// deploy installs a job and starts it, each script run twice: all of them have
// to bear it.
func deploy(t *testing.T, job *instance) {
	t.Helper()
	install(t, job)
	for range 2 {
		script(t, job.job, "pre-start", preStartLimit)
	}
	if read(t, "/var/vcap/jobs/"+job.job+"/monit") != "" {
		monit(t, job.job, "start")
	}
	for range 2 {
		script(t, job.job, "post-start", postStartLimit)
	}
}

const tiniPath = "/var/vcap/packages/bpm/bin/tini"

// tini is the first process of each container, as the one in bpm's package is:
// the program is its child, and gets SIGTERM from it.
const tini = `#!/bin/sh
while [ "$1" != -- ]; do shift; done
shift
"$@" &
child=$!
trap 'kill -TERM $child' TERM
wait $child
code=$?
while kill -0 $child 2>/dev/null; do
	wait $child
	code=$?
done
exit $code
`

// modestRunc is runc, but asks for no more than this machine may give: bpm's
// specifications are for stemcells.
const modestRunc = `#!/usr/bin/env python3
import json, os, resource, sys
args = sys.argv[1:]
if "--bundle" in args:
    file = os.path.join(args[args.index("--bundle") + 1], "config.json")
    spec = json.load(open(file))
    process = spec["process"]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for limit in process.get("rlimits", []):
        limit["hard"], limit["soft"] = min(limit["hard"], most), min(limit["soft"], most)
    bounding = [l.split()[1] for l in open("/proc/self/status") if l.startswith("CapBnd:")][0]
    if not int(bounding, 16) & 1 << 24:
        for some in process.get("capabilities", {}).values():
            if "CAP_SYS_RESOURCE" in some:
                some.remove("CAP_SYS_RESOURCE")
    json.dump(spec, open(file, "w"))
os.execvp("runc", ["runc"] + args)
`

// installBPM puts the stand-in where monit files call it, or the real bpm that
// BPM_BIN names. What they start goes at the test's end.
func installBPM(t *testing.T) {
	t.Helper()
	program, err := os.Executable()
	must(t, err)
	write(t, tiniPath, tini, 0o755)
	if real := os.Getenv("BPM_BIN"); real != "" {
		t.Log("with the real bpm, ", real)
		write(t, "/var/vcap/packages/bpm/bin/runc", modestRunc, 0o755)
		program = "/var/vcap/packages/bpm/bin/bpm"
		write(t, program, read(t, real), 0o755)
	}
	must(t, os.MkdirAll("/var/vcap/jobs/bpm/bin", 0o755))
	must(t, os.Symlink(program, "/var/vcap/jobs/bpm/bin/bpm"))
	must(t, os.MkdirAll("/var/vcap/store", 0o755))
	t.Cleanup(func() {
		for _, args := range [][]string{{"rootstock-cell"}, {"rootstock-cell", "-p", "rootstock-holder"}, {"rootstock-stratum0"}, {"rootstock-stratum0", "-p", "rootstock-publish"}, {"rootstock-stratum0", "-p", "rootstock-sync"}} {
			exec.Command("/var/vcap/jobs/bpm/bin/bpm", append([]string{"stop"}, args...)...).Run()
		}
		for _, dir := range mounts(t, "/var/vcap/") {
			// EINVAL: it has gone with the one it was shared with.
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
				t.Errorf("unmount %s: %v", dir, err)
			}
		}
	})
}

// mounts lists mount points below a directory, the innermost first.
func mounts(t testing.TB, below string) (found []string) {
	t.Helper()
	lines := strings.Split(read(t, "/proc/self/mountinfo"), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if f := strings.Fields(lines[i]); len(f) > 4 && strings.HasPrefix(f[4], below) {
			found = append(found, f[4])
		}
	}
	return found
}
