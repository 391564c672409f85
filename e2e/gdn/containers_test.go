package gdn_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A tar of one file.
func tarOf(t *testing.T, name, text string) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}))
	_, err := w.Write([]byte(text))
	must(t, errors.Join(err, w.Close()))
	return &b
}

func TestContainers(t *testing.T) {
	needGdn(t)
	s := theSite(t)
	for _, way := range []struct{ tier, ids string }{{"image", "auto"}, {"tree", "kernel"}, {"tree", "daemon"}} {
		c := s.cell(t, "--tier", way.tier, "--id-mapping", way.ids)
		for _, uri := range []string{treeURI, imageURI, ""} {
			for _, privileged := range []bool{false, true} {
				name := fmt.Sprintf("%s tier, ids by %s, %s, privileged %v", way.tier, way.ids, uri, privileged)
				t.Run(name, func(t *testing.T) { c.live(t, uri, privileged) })
			}
		}
	}
}

// live is the life of a container.
func (c *cell) live(t *testing.T, uri string, privileged bool) {
	handle := "h" + strconv.Itoa(len(uri)) + strconv.FormatBool(privileged)
	must(t, c.create(t.Context(), container{
		Handle: handle, Privileged: privileged, Image: image{uri}, Properties: map[string]string{"app": "a"},
	}))
	destroyed := false
	defer func() {
		if !destroyed {
			c.destroy(t.Context(), handle) //nolint:errcheck // the test has failed
		}
	}()
	for _, tc := range []struct{ user, command, want string }{
		{"root", "id -u", "0"},
		{"root", "stat -c %u:%g:%a /etc/passwd /bin/su | tr '\\n' ' '", "0:0:644 0:0:4755"},
		{"root", "touch /etc/made && stat -c %u /etc/made", "0"},
		{"root", "useradd -m -u 1000 vcap && stat -c %u:%g /home/vcap", "1000:1000"},
		{"vcap", "/usr/bin/passwd -S | cut -d' ' -f1,2", "vcap L"}, // reads /etc/shadow, being root's
		{"vcap", "id -u; cat /etc/shadow >/dev/null || echo refused", "1000\ncat: /etc/shadow: Permission denied\nrefused"},
		{"vcap", "echo mine > ~/file && cat ~/file", "mine"},
		{"root", "rm /etc/debian_version && ls /etc/debian_version 2>&1 | grep -c 'No such'", "1"},
		{"root", "mv /usr/share/doc /usr/share/moved && ls -d /usr/share/moved", "/usr/share/moved"},
	} {
		if said := c.says(t, handle, tc.user, tc.command); said != tc.want {
			t.Errorf("%s as %s: %q, want %q", tc.command, tc.user, said, tc.want)
		}
	}
	if uri == imageURI {
		if said := c.says(t, handle, "root", "echo $FROM_IMAGE"); said != "yes" {
			t.Errorf("the image's environment is lost: %q", said)
		}
	}
	// A set-user-id program raises whoever runs it.
	if said := c.says(t, handle, "vcap", "cp /usr/bin/id /tmp/id; ls -l /tmp/id | cut -c1-4"); said != "-rwx" {
		t.Errorf("copied program: %q", said)
	}

	must(t, c.streamIn(t.Context(), handle, "vcap", "/home/vcap", tarOf(t, "in", "streamed")))
	if said := c.says(t, handle, "vcap", "cat in; stat -c ' %u' in"); said != "streamed 1000" {
		t.Errorf("streamed in: %q", said)
	}
	out, err := c.streamOut(t.Context(), handle, "vcap", "/home/vcap/file")
	must(t, err)
	r := tar.NewReader(bytes.NewReader(out))
	h, err := r.Next()
	must(t, err)
	if text, err := io.ReadAll(r); err != nil || string(text) != "mine\n" || h.Name != "file" {
		t.Errorf("streamed out: %s, %q, %v", h.Name, text, err)
	}

	before := c.metrics(t, handle).DiskStat
	c.says(t, handle, "root", "head -c 3000000 /dev/urandom > /var/big; sync")
	after := c.metrics(t, handle).DiskStat
	if grown := after.ExclusiveBytesUsed - before.ExclusiveBytesUsed; grown < 3000000 || grown > 3200000 {
		t.Errorf("3000000 bytes were written and %d are counted", grown)
	}
	if size := after.TotalBytesUsed - after.ExclusiveBytesUsed; size < 50<<20 || size != before.TotalBytesUsed-before.ExclusiveBytesUsed {
		t.Errorf("size of the image: %d, before %d", size, before.TotalBytesUsed-before.ExclusiveBytesUsed)
	}
	c.bulk(t, handle, after)
	must(t, c.destroy(t.Context(), handle))
	destroyed = true
	if err := c.destroy(t.Context(), handle); err == nil || !strings.Contains(err.Error(), "unknown handle") {
		t.Errorf("destroyed twice: %v", err)
	}
	t.Cleanup(func() { c.nothingLeft() })
}

// bulk asks as rep does, for all containers at once.
func (c *cell) bulk(t *testing.T, handle string, want struct{ TotalBytesUsed, ExclusiveBytesUsed int64 }) {
	t.Helper()
	var infos map[string]struct {
		Info struct {
			State      string
			Properties map[string]string
		}
		Err any
	}
	must(t, c.call(t.Context(), "GET", "/containers/bulk_info?handles="+handle, nil, &infos))
	if i := infos[handle]; i.Err != nil || i.Info.State != "active" || i.Info.Properties["app"] != "a" {
		t.Errorf("bulk info: %+v", infos)
	}
	var all map[string]struct {
		Metrics metrics
		Err     any
	}
	must(t, c.call(t.Context(), "GET", "/containers/bulk_metrics?handles="+handle, nil, &all))
	if m := all[handle]; m.Err != nil || m.Metrics.DiskStat != want {
		t.Errorf("bulk metrics: %+v, want %+v", all, want)
	}
}

func TestDiskLimit(t *testing.T) {
	needGdn(t)
	c := theSite(t).cell(t)
	must(t, c.create(t.Context(), container{Handle: "size"}))
	stat := c.metrics(t, "size").DiskStat
	size := stat.TotalBytesUsed - stat.ExclusiveBytesUsed
	must(t, c.destroy(t.Context(), "size"))
	const room = 20 << 20
	for name, tc := range map[string]struct {
		privileged bool
		limit      disk
	}{
		"total":      {false, disk{size + room, 0}},
		"exclusive":  {false, disk{room, 1}},
		"privileged": {true, disk{room, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, c.create(t.Context(), container{Handle: name, Privileged: tc.privileged, Limits: limits{tc.limit}}))
			defer func() { must(t, c.destroy(t.Context(), name)) }()
			said, status, err := c.run(t.Context(), name, "root", "head -c 100000000 /dev/urandom > /root/big")
			if err != nil || status == 0 || !strings.Contains(said, "No space left on device") {
				t.Errorf("exit %d, %v: %s", status, err, said)
			}
			wrote, err := strconv.Atoi(c.says(t, name, "root", "stat -c %s /root/big"))
			// gdn and the container have a few small files of their own.
			if err != nil || wrote < room-256<<10 || wrote > room+128<<10 {
				t.Errorf("the disk was full after %d bytes, %v, the limit being %d", wrote, err, room)
			}
			if used := c.metrics(t, name).DiskStat.ExclusiveBytesUsed; used < int64(wrote) || used > room+256<<10 {
				t.Errorf("%d bytes are counted, %d were written", used, wrote)
			}
		})
	}
	err := c.create(t.Context(), container{Handle: "small", Limits: limits{disk{size, 0}}})
	if err == nil || !strings.Contains(err.Error(), "leaves no room to write") {
		t.Errorf("a limit of the image's size: %v", err)
	}
}

// A gdn that is stopped and started again finds its containers, and can
// measure and destroy them.
func TestRestart(t *testing.T) {
	needGdn(t)
	c := theSite(t).cell(t)
	c.two()
	c.gdn.End()
	c.start()
	for _, handle := range []string{"false", "true"} {
		if said := c.says(t, handle, "root", "cat /root/file; head -c 1000 /dev/zero > /root/more"); said != "kept" {
			t.Errorf("%s: %q", handle, said)
		}
		if used := c.metrics(t, handle).DiskStat.ExclusiveBytesUsed; used < 1000 {
			t.Errorf("%s: %d bytes are counted", handle, used)
		}
		must(t, c.destroy(t.Context(), handle))
	}
}

// A gdn that is killed has lost what it knew of its containers, and destroys
// them when it starts.
func TestKilled(t *testing.T) {
	needGdn(t)
	c := theSite(t).cell(t)
	c.two()
	c.gdn.Kill()
	c.start()
	c.nothingLeft()
	c.two()
	for _, handle := range []string{"false", "true"} {
		must(t, c.destroy(t.Context(), handle))
	}
}

// two makes a container that is privileged and one that is not.
func (c *cell) two() {
	c.t.Helper()
	for _, privileged := range []bool{false, true} {
		handle := strconv.FormatBool(privileged)
		must(c.t, c.create(c.t.Context(), container{Handle: handle, Privileged: privileged, Limits: limits{disk{50 << 20, 1}}}))
		c.says(c.t, handle, "root", "echo kept > /root/file")
	}
}

func TestCreateFails(t *testing.T) {
	needGdn(t)
	c := theSite(t).cell(t)
	for uri, says := range map[string]string{
		"cvmfs://stacks/rootfs/other":     "cvmfs://" + repository + "/rootfs/other",
		"docker:///test/other":            "rootstock publish image",
		"docker:///test/debian#13":        "rootstock publish image",
		"cvmfs://stacks/rootfs/debian@99": "debian@99",
	} {
		for _, privileged := range []bool{false, true} {
			err := c.create(t.Context(), container{Handle: "h", Privileged: privileged, Image: image{uri}})
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v, want %q", uri, err, says)
			}
			c.nothingLeft()
		}
	}
}

func TestManyContainers(t *testing.T) {
	needGdn(t)
	c := theSite(t).cell(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 5 {
				handle := fmt.Sprintf("h%d-%d", i, j)
				if err := c.create(t.Context(), container{Handle: handle, Privileged: j == 0}); err != nil {
					t.Error(err)
					return
				}
				if said, status, err := c.run(t.Context(), handle, "root", "cat /etc/hostname /etc/hosts > /root/x; id -u"); said != "0" || status != 0 {
					t.Errorf("exit %d, %v: %s", status, err, said)
				}
				if err := c.destroy(t.Context(), handle); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
