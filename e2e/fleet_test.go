package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/garden/gardentest"
)

// Cells of the fleet that do not answer: one is stopped, one cannot be reached.
const (
	fleetSize = 20
	stopped   = 18
	cutOff    = 19
	// Every so many cells one is in zone z1.
	zones = 5
)

// Twenty daemons, each in a network of its own, with containers that the plugin
// made on different versions: who runs what, who is behind, what an audit finds,
// what gc keeps, and what the disk is for. Two of them do not answer in the end.
func TestFleet(t *testing.T) {
	needRoot(t)
	f := newFleetSite(t)
	f.all(func(i int) {
		c := f.cells[i]
		c.start()
		// An odd cell's second container names its version.
		c.create("plugin.json", "rootfs/demo:stable", handle(i, "a"))
		if i%2 == 1 {
			c.create("plugin.json", "rootfs/demo@2", handle(i, "b"))
		}
		f.gardens[i].Diego(handle(i, "a"), fmt.Sprintf("app-%02d", i/2), "space-1", "org-1", fmt.Sprintf("shop %d", i/2), "prod", "acme")
	})
	f.tool(t, 0, "channel", "set", "rootfs/demo", "stable", "2", "--store", f.s.store, "--keys", f.s.keys, "--auto-tag=false")
	f.all(func(i int) {
		f.ask(t, 0, i, "refresh")
		if i%4 == 0 {
			f.cells[i].create("plugin.json", "rootfs/demo:stable", handle(i, "c"))
		}
	})
	// The file of the package in question is used on one cell.
	run(t, "", "cat", filepath.Join(f.cells[3].dir, "containers", "containers", handle(3, "a"), "rootfs", "usr/lib/libssl.so.3"))

	t.Run("all answer", func(t *testing.T) {
		// 20 by the channel as it was, 10 by version 2, 5 by the channel as
		// it is.
		said := f.fleet(t, 0, "fleet")
		for _, want := range []string{
			`demo:stable +1 +\w+ +20 +20 +20 `, `demo:stable +2 +\w+ +5 +5 +0 `, `demo@2 +2 +\w+ +10 +10 +0 `,
			`(?m)^35 containers on 20 cells, 20 behind$`,
		} {
			wantLine(t, said, want)
		}
	})
	wantLine(t, f.fleet(t, 0, "fleet", "--by-cell"), `(?m)^cell-04 +2 +1$`)
	t.Run("gc keeps what containers stand on", func(t *testing.T) {
		leased, idle := f.object(t, "rootfs/demo/1/usr/share/late"), f.object(t, "rootfs/demo/3/usr/share/late")
		// Two revisions stay without anybody's lease: the newest, and the one
		// before, which has a tag. Versions 1 and 3 must be in neither. For
		// a leased tree the youngest revision that has it stays whole, so 3
		// has to go first.
		for _, change := range [][]string{{"remove", "rootfs/demo@3"}, {"remove", "rootfs/demo@1"}, {"channel", "set", "rootfs/demo", "edge", "2"}} {
			f.tool(t, 0, append(change, "--store", f.s.store, "--keys", f.s.keys, "--auto-tag=false")...)
			// Revisions have times in seconds, and all of the newest second
			// stay.
			time.Sleep(1100 * time.Millisecond)
		}
		// With nobody's word, both would go: it is the leases that keep one.
		nobody, names := filepath.Join(f.s.dir, "nobody.jsonl"), filepath.Join(f.s.dir, "would-go")
		must(t, os.WriteFile(nobody, nil, 0o600))
		f.tool(t, 0, "gc", "--store", f.s.store, "--keys", f.s.keys, "--grace", "0", "--keep-for", "0", "--leases", nobody, "--dry-run", "--deletion-log", names)
		would, err := os.ReadFile(names)
		must(t, err)
		for _, name := range []string{leased, idle} {
			if !strings.Contains(string(would), name) || !f.stored(name) {
				t.Errorf("without leases, %s is kept by something else:\n%s", name, would)
			}
		}
		before := f.objects(t)
		out := f.fleet(t, 0, "gc", "--store", f.s.store, "--keys", f.s.keys, "--grace", "0", "--keep-for", "0", "--json", "--leases", "fleet:"+f.list)
		var r struct{ Deleted int }
		must(t, json.Unmarshal([]byte(out), &r))
		if r.Deleted == 0 || f.objects(t) >= before {
			t.Errorf("nothing was deleted: %s", out)
		}
		if !f.stored(leased) || f.stored(idle) {
			t.Errorf("what a container runs is there: %v; what none runs: %v", f.stored(leased), f.stored(idle))
		}
		// Version 1 is published no more, and this file of it is on no cell:
		// it comes from the store.
		got := run(t, "", "cat", filepath.Join(f.cells[5].dir, "containers", "containers", handle(5, "a"), "rootfs", "usr/share/late"))
		if got != "late of version 1\n" {
			t.Errorf("a container reads %q", got)
		}
	})
	t.Run("df", func(t *testing.T) {
		var d cell.Disk
		must(t, json.Unmarshal([]byte(f.ask(t, 0, 5, "df", "--json", "--would", "rootfs/demo@2")), &d))
		if d.Bytes != d.Exclusive+d.Shared+d.Pinned+d.Reclaimable || d.Bytes == 0 {
			t.Errorf("the sums do not add up: %+v", d)
		}
		if tier(t) == cell.TierImage && (len(d.Trees) != 2 || !d.Trees[0].Counted || d.Exclusive == 0) {
			t.Errorf("trees: %+v", d)
		}
		if d.Would == nil || d.Would.Adds == 0 || d.Would.Adds > d.Would.Bytes {
			t.Errorf("would add %+v", d.Would)
		}
		if said := f.ask(t, 0, 5, "df"); !strings.Contains(said, "reclaimable") {
			t.Errorf("df says\n%s", said)
		}
	})

	f.cells[stopped].stop()
	f.ip(t, "-n", f.hub, "link", "set", fmt.Sprintf("v%d", cutOff), "down")
	silent := []string{`cell 10\.91\.7\.28:8443 did not answer: .*refused`, `cell 10\.91\.7\.29:8443 did not answer: `}

	t.Run("two do not answer", func(t *testing.T) {
		said := f.fleet(t, 4, "fleet")
		wantLine(t, said, `exceeded`)
		// What follows need not wait for it.
		f.ip(t, "-n", f.hub, "route", "add", "unreachable", fmt.Sprintf("10.91.7.%d", 10+cutOff))
		for _, want := range append(silent, `(?m)^32 containers on 18 cells, 18 behind; 2 cells did not answer$`) {
			wantLine(t, said, want)
		}
		var last struct {
			Unreachable int `json:"cells_unreachable"`
		}
		lines := strings.Split(strings.TrimSpace(f.fleet(t, 4, "fleet", "--json")), "\n")
		must(t, json.Unmarshal([]byte(lines[len(lines)-1]), &last))
		if last.Unreachable != 2 || len(lines) < 4 {
			t.Errorf("the last line is %s", lines[len(lines)-1])
		}
	})
	t.Run("behind", func(t *testing.T) {
		said := f.fleet(t, 3, "fleet", "--behind", "rootfs/demo:stable")
		wantLine(t, said, `cell-03 +c-03-a +1 +shop 1 +prod `)
		if n := strings.Count(said, "-a "); n != 18 {
			t.Errorf("%d containers are behind:\n%s", n, said)
		}
		said = f.fleet(t, 3, "fleet", "--behind", "rootfs/demo:stable", "--emit", "restarts", "--wave", "4")
		for _, want := range []string{
			`(?m)^# wave 1 of 3$`, `(?m)^# wave 3 of 3$`,
			`(?m)^cf target -o acme -s prod && cf restart 'shop 0'  # 2 containers$`, `10\.91\.7\.29:8443 did not answer`,
		} {
			wantLine(t, said, want)
		}
		if n := strings.Count(said, "cf restart"); n != 9 {
			t.Errorf("%d apps are restarted:\n%s", n, said)
		}
	})
	t.Run("audit", func(t *testing.T) {
		// Version 1 is not published any more: that its containers run is
		// known, what they hold is not.
		said := f.fleet(t, 3, "audit", "openssl < 3.0.2-0ubuntu1.19", "--store", f.s.store)
		for _, want := range append(silent,
			`(?m)^cvmfs:.*|rootfs/demo@2 `, `cell +cell-05: c-05-b; whether affected files were opened is unknown`,
			`container c-03-a runs on tree \w+, which is not published here`,
		) {
			wantLine(t, said, want)
		}
		f.tool(t, 0, "publish", "--store", f.s.store, "--keys", f.s.keys, "--cache", filepath.Join(f.s.dir, "index"), "rootfs", "demo", "1", filepath.Join(f.s.dir, "1.tar"))
		said = f.fleet(t, 3, "audit", "openssl < 3.0.2-0ubuntu1.18", "--store", f.s.store)
		for _, want := range []string{
			`cell +cell-03: c-03-a; 1 affected files were opened there`, `cell +cell-05: c-05-a; whether affected files were opened is unknown`,
			`app +app-01 \(acme / prod / shop 1\)`, `clean +rootfs/demo@2`,
			`1 of 2 trees affected; 18 of 32 containers on 18 of 18 cells affected, 2 cells did not answer`,
		} {
			wantLine(t, said, want)
		}
	})
	t.Run("gc does not guess", func(t *testing.T) {
		args := []string{"gc", "--store", f.s.store, "--keys", f.s.keys, "--keep-for", "0", "--leases", "fleet:" + f.list}
		said := f.fleet(t, 1, append(args, "--grace", "1h")...)
		wantLine(t, said, `nothing says what containers run: not all cells answered`)
		wantLine(t, said, `cell 10\.91\.7\.29:8443: `)
		said = f.fleet(t, 0, append(args, "--grace", "720h")...)
		wantLine(t, said, `the grace period stands in for them`)
	})
	t.Run("droplet", f.droplet)
	t.Run("rollout", f.rollout)
	t.Run("nobody without a certificate", func(t *testing.T) {
		cmd := exec.Command("nsenter", "--net=/run/netns/"+f.hub, f.s.bin+"/rootstock", "fleet", "--cells", "https://10.91.7.10:8443", "--ca", f.certs+"/ca.pem")
		out, err := cmd.CombinedOutput()
		if err == nil || !regexp.MustCompile(`cell 10\.91\.7\.10:8443 did not answer: .*certificate`).Match(out) {
			t.Errorf("%v: %s", err, out)
		}
	})
}

func handle(i int, which string) string { return fmt.Sprintf("c-%02d-%s", i, which) }

func wantLine(t *testing.T, said, want string) {
	t.Helper()
	if !regexp.MustCompile(want).MatchString(said) {
		t.Errorf("nothing like %q in\n%s", want, said)
	}
}

// fleetSite is a repository, networks joined by a bridge, and a cell in each.
type fleetSite struct {
	t       *testing.T
	s       *site
	hub     string // the network with the bridge, the server and whoever asks
	certs   string
	list    string // a file with the cells' URLs
	cells   []*cellDaemon
	gardens []*gardentest.Garden
}

func newFleetSite(t *testing.T) *fleetSite {
	t.Helper()
	f := &fleetSite{t: t, s: newSite(t), hub: fmt.Sprintf("rsfleet%d", os.Getpid())}
	f.certs = writeCertificates(t, f.s.dir, "10.91.7.", 10, fleetSize)
	for v, revision := range map[string]string{"1": "17", "2": "18", "3": "19"} {
		f.publish(v, revision)
	}
	f.tool(t, 0, "channel", "set", "rootfs/demo", "stable", "1", "--store", f.s.store, "--keys", f.s.keys, "--auto-tag=false")
	f.networks()
	url := background(t, regexp.MustCompile(`(http://10\.91\.7\.1:\d+/\S+)`), "nsenter", "--net=/run/netns/"+f.hub,
		f.s.bin+"/rootstock", "serve", "--store", f.s.store, "--listen", "10.91.7.1:8000")
	var urls strings.Builder
	for i := range fleetSize {
		fmt.Fprintf(&urls, "https://10.91.7.%d:8443 # cell %d\n", 10+i, i)
		f.add(i, url)
	}
	t.Cleanup(f.end)
	f.list = filepath.Join(f.s.dir, "cells.txt")
	must(t, os.WriteFile(f.list, []byte(urls.String()), 0o600))
	return f
}

// publish makes a version with one Debian package.
func (f *fleetSite) publish(version, revision string) {
	f.t.Helper()
	dir := filepath.Join(f.s.dir, "tree-"+version)
	for name, text := range map[string]string{
		"usr/lib/libssl.so.3": "libssl " + revision + "\n", "usr/share/common": strings.Repeat("the same in all versions\n", 100),
		"usr/share/late": "late of version " + version + "\n", "usr/share/doc/libssl3/copyright": "free\n",
		"var/lib/dpkg/info/libssl3:amd64.list": "/.\n/lib/libssl.so.3\n/usr/share/doc/libssl3/copyright\n",
		"var/lib/dpkg/status":                  "Package: libssl3\nStatus: install ok installed\nArchitecture: amd64\nSource: openssl\nVersion: 3.0.2-0ubuntu1." + revision + "\n",
	} {
		must(f.t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		must(f.t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	tar := filepath.Join(f.s.dir, version+".tar")
	run(f.t, "", "tar", "-C", dir, "--mtime=@1700000000", "--owner=0", "--group=0", "--sort=name", "-cf", tar, ".")
	// A tag would keep the revision, and all that is in it, for weeks.
	f.s.publish(f.t, "--auto-tag=false", "rootfs", "demo", version, tar)
}

// networks makes them: 10.91.7.1 is the hub's, cell i has 10.91.7.10+i.
func (f *fleetSite) networks() {
	f.t.Helper()
	must(f.t, os.MkdirAll("/run/netns", 0o755))
	f.t.Cleanup(func() {
		// With its networks go the links.
		for i := range fleetSize {
			exec.Command("ip", "netns", "del", f.network(i)).Run()
		}
		exec.Command("ip", "netns", "del", f.hub).Run()
	})
	f.ip(f.t, "netns", "add", f.hub)
	var links, names strings.Builder
	fmt.Fprintln(&links, "link set lo up\nlink add br0 type bridge\naddr add 10.91.7.1/24 dev br0\nlink set br0 up")
	for i := range fleetSize {
		fmt.Fprintf(&names, "netns add %s\n", f.network(i))
		fmt.Fprintf(&links, "link add v%[1]d type veth peer name eth0 netns %[2]s\nlink set v%[1]d master br0\nlink set v%[1]d up\n", i, f.network(i))
	}
	f.batch(names.String(), "-batch", "-")
	f.batch(links.String(), "-n", f.hub, "-batch", "-")
	for i := range fleetSize {
		f.batch(fmt.Sprintf("link set lo up\naddr add 10.91.7.%d/24 dev eth0\nlink set eth0 up\n", 10+i), "-n", f.network(i), "-batch", "-")
	}
}

func (f *fleetSite) network(i int) string { return fmt.Sprintf("%s-%d", f.hub, i) }

func (f *fleetSite) ip(t *testing.T, args ...string) { t.Helper(); run(t, "", "ip", args...) }

func (f *fleetSite) batch(input string, args ...string) {
	f.t.Helper()
	cmd := exec.Command("ip", args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		f.t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
}

// add makes a cell, which does not run yet, and its Garden.
func (f *fleetSite) add(i int, url string) {
	f.t.Helper()
	dir := filepath.Join(f.s.dir, fmt.Sprintf("cell-%02d", i))
	must(f.t, os.MkdirAll(filepath.Join(dir, "mnt"), 0o755))
	f.gardens = append(f.gardens, gardentest.Start(f.t, filepath.Join(dir, "garden.sock")))
	conf, err := json.Marshal(map[string]any{
		"name": fmt.Sprintf("cell-%02d", i), "id": fmt.Sprintf("0000-%02d", i), "labels": map[string]string{"zone": fmt.Sprintf("z%d", 1+i%zones)}, "cache": "cache", "socket": "cell.sock", "refresh": "1h", "garden": dir + "/garden.sock",
		"tier": "auto",
		"fleet": map[string]string{
			"listen": fmt.Sprintf("10.91.7.%d:8443", 10+i), "ca": f.certs + "/ca.pem",
			"cert": fmt.Sprintf("%s/%d.pem", f.certs, i), "key": fmt.Sprintf("%s/%d.key", f.certs, i),
		},
		"repositories": []map[string]any{{
			"name": siteName, "servers": []string{url}, "keys": []string{filepath.Join(f.s.keys, siteName+".pub")}, "mountpoint": "mnt",
		}},
	})
	must(f.t, err)
	must(f.t, os.WriteFile(dir+"/cell.json", conf, 0o600))
	c := &cellDaemon{
		t: f.t, s: f.s, dir: dir, program: "nsenter",
		args: []string{"--net=/run/netns/" + f.network(i), f.s.bin + "/rootstock-cell", "run", "--config", dir + "/cell.json"},
	}
	c.config("plugin.json", nil)
	f.cells = append(f.cells, c)
}

// end ends all daemons at the same time, and then takes their mounts away, of
// which those that are still served would come back.
func (f *fleetSite) end() {
	f.each(func(i int) {
		if c := f.cells[i].cmd; c != nil && c.ProcessState == nil {
			c.Process.Kill()
			c.Wait()
		}
	})
	f.cells[0].end()
}

// all is each, and ends the test if something failed.
func (f *fleetSite) all(do func(i int)) {
	f.t.Helper()
	f.each(do)
	if f.t.Failed() {
		f.t.FailNow()
	}
}

// each does something for all cells, a few at a time.
func (f *fleetSite) each(do func(i int)) {
	f.t.Helper()
	slots := make(chan struct{}, 4)
	var wg sync.WaitGroup
	for i := range f.cells {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			do(i)
		})
	}
	wg.Wait()
}

// ask runs rootstock-cell against a cell's socket.
func (f *fleetSite) ask(t *testing.T, code, i int, args ...string) string {
	t.Helper()
	return f.run(t, code, "", f.s.bin+"/rootstock-cell", append(args, "--socket", f.cells[i].dir+"/cell.sock")...)
}

// tool runs rootstock.
func (f *fleetSite) tool(t *testing.T, code int, args ...string) string {
	t.Helper()
	return f.run(t, code, "", f.s.bin+"/rootstock", args...)
}

// fleet runs rootstock in the hub's network with all cells and certificates.
func (f *fleetSite) fleet(t *testing.T, code int, args ...string) string {
	t.Helper()
	prefix := "--cells-"
	switch args[0] {
	case "fleet":
		prefix = "--"
		args = append(args, "--cells", f.list)
	case "audit":
		args = append(args, "--cells", f.list)
	}
	args = append(args, prefix+"cert", f.certs+"/client.pem", prefix+"key", f.certs+"/client.key", prefix+"ca", f.certs+"/ca.pem", prefix+"timeout", "2s")
	return f.run(t, code, f.hub, f.s.bin+"/rootstock", args...)
}

func (f *fleetSite) run(t *testing.T, code int, network, program string, args ...string) string {
	t.Helper()
	if network != "" {
		program, args = "nsenter", append([]string{"--net=/run/netns/" + network, program}, args...)
	}
	var out bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) || cmd.ProcessState.ExitCode() != code {
		t.Errorf("%v ended with %v, not %d:\n%s", args, err, code, &out)
	}
	return out.String()
}

// object is the name of the only object of a file that is published.
func (f *fleetSite) object(t *testing.T, path string) string {
	t.Helper()
	var e struct{ Objects []struct{ Name string } }
	must(t, json.Unmarshal([]byte(f.tool(t, 0, "explain", "/"+path, "--store", f.s.store, "--json")), &e))
	if len(e.Objects) != 1 || !f.stored(e.Objects[0].Name) {
		t.Fatalf("%s is stored as %+v", path, e.Objects)
	}
	return e.Objects[0].Name
}

// stored reports whether the store has an object.
func (f *fleetSite) stored(name string) bool {
	_, err := os.Stat(filepath.Join(f.s.store, name))
	return err == nil
}

// objects counts what the store holds.
func (f *fleetSite) objects(t *testing.T) int {
	t.Helper()
	return len(strings.Fields(run(t, "", "find", f.s.store, "-path", "*/data/*", "-type", "f")))
}
