package cell_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/reference"
)

// clock is moved by hand.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.t }

func (c *clock) add(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.t = c.t.Add(d) }

func repository(t *testing.T, r *testrepo.Repo) cell.Repository {
	t.Helper()
	return cell.Repository{
		Name: r.Name, Servers: []string{r.URL}, Keys: r.Trust().Keys, Mountpoint: t.TempDir(), Refresh: time.Hour,
	}
}

func options(t *testing.T, repos ...*testrepo.Repo) cell.Options {
	t.Helper()
	dir := t.TempDir()
	o := cell.Options{Tier: cell.TierTree, CacheDir: filepath.Join(dir, "cache"), Socket: filepath.Join(dir, "cell.sock")}
	for _, r := range repos {
		o.Repositories = append(o.Repositories, repository(t, r))
	}
	return o
}

// start runs a cell until the test, or stop, ends it.
func start(t *testing.T, o cell.Options) (*cell.Cell, *control.Client, func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mounting takes root, so nothing of the cell is tested")
	}
	c, err := cell.Mount(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	c.Hurry(50 * time.Millisecond)
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, func() { close(ready) }) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	<-ready
	return c, &control.Client{Socket: o.Socket, Timeout: 30 * time.Second}, stop
}

// cat reads a file of a mount in a process of its own: Go's os.Open polls the
// file in a way that can stop this one, which is to answer.
func cat(path string) ([]byte, error) { return exec.Command("cat", path).Output() }

func raw(t *testing.T, fqrn, path string) reference.Reference {
	t.Helper()
	r, err := reference.Parse("cvmfs://" + fqrn + "/-" + path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var box = testrepo.Tree{"/tree": testrepo.Nested(), "/tree/etc/hostname": testrepo.Text("box")}

// Two repositories: a lower is asked for by name, a handle moves from one to the
// other, and survives a restart.
func TestLowersOfSeveralRepositories(t *testing.T) {
	one, two := testrepo.New(t, testrepo.Options{}), testrepo.New(t, testrepo.Options{Name: "two.example.org"})
	one.Publish(box)
	two.Publish(box)
	o := options(t, one, two)
	_, c, stop := start(t, o)
	for i, name := range []string{one.Name, two.Name} {
		l, err := c.Lower(t.Context(), control.LowerRequest{Ref: raw(t, name, "/tree"), Handle: "h"})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(l.Lower[0], o.Repositories[i].Mountpoint) {
			t.Errorf("lower of %s: %v", name, l.Lower)
		}
		if b, err := cat(l.Lower[0] + "/etc/hostname"); err != nil || string(b) != "box" {
			t.Errorf("%q, %v", b, err)
		}
	}
	held := func(c *control.Client) (list []string) {
		all, err := c.Containers(t.Context())
		if err != nil {
			t.Error(err)
		}
		for _, one := range all {
			list = append(list, one.Handle+" "+one.Ref.Repository)
		}
		return list
	}
	if got := held(c); !slices.Equal(got, []string{"h two.example.org"}) {
		t.Errorf("containers: %v", got)
	}
	nameless := reference.Reference{Path: "/tree"}
	if _, err := c.Lower(t.Context(), control.LowerRequest{Ref: nameless, Handle: "i"}); !errors.Is(err, control.ErrInvalid) {
		t.Errorf("without a name: %v", err)
	}
	stop()
	_, c, _ = start(t, o)
	if got := held(c); !slices.Equal(got, []string{"h two.example.org"}) {
		t.Errorf("after a restart: %v", got)
	}
	if err := c.Release(t.Context(), "h"); err != nil || len(held(c)) != 0 {
		t.Errorf("after release: %v, %v", held(c), err)
	}
}

// A repository that cannot be had keeps nobody else from starting; one that is
// the only one is an error.
func TestOneOfTwoIsDown(t *testing.T) {
	good, bad := testrepo.New(t, testrepo.Options{}), testrepo.New(t, testrepo.Options{Name: "bad.example.org"})
	good.Publish(box) // bad has no revision
	alone := options(t, bad)
	if c, err := cell.Mount(t.Context(), alone); err == nil || !strings.Contains(err.Error(), "bad.example.org") {
		t.Fatalf("%v, %v", c, err)
	}
	daemon, c, _ := start(t, options(t, bad, good))
	if _, err := c.Lower(t.Context(), control.LowerRequest{Ref: raw(t, good.Name, "/tree"), Handle: "h"}); err != nil {
		t.Error(err)
	}
	_, err := c.Lower(t.Context(), control.LowerRequest{Ref: raw(t, bad.Name, "/tree"), Handle: "h"})
	if !errors.Is(err, control.ErrUnavailable) || !strings.Contains(err.Error(), "not mounted yet") {
		t.Errorf("lower of what is down: %v", err)
	}
	if status, body := get(t, daemon, "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, bad.Name) {
		t.Errorf("ready: %d %s", status, body)
	}
	if _, body := get(t, daemon, "/metrics"); !strings.Contains(body, `rootstock_cell_repository_mounted{repository="bad.example.org"} 0`) {
		t.Error("nothing says that it is not mounted")
	}
}

// What could not be mounted is mounted when it can be, and what somebody
// unmounted is mounted again; containers keep their trees, and a handle that was
// released meanwhile is gone.
func TestMountedAgain(t *testing.T) {
	one, late := testrepo.New(t, testrepo.Options{}), testrepo.New(t, testrepo.Options{Name: "late.example.org"})
	one.Publish(box)
	o := options(t, one, late)
	daemon, c, _ := start(t, o)
	until := func(what string, ok func() bool) {
		t.Helper()
		for range 15_000 { // often: a remount takes no longer than two looks
			if ok() {
				return
			}
			time.Sleep(2 * time.Millisecond)
		}
		t.Fatalf("never: %s", what)
	}
	ready := func() bool { status, _ := get(t, daemon, "/readyz"); return status == http.StatusOK }
	if ready() {
		t.Error("ready without a repository")
	}
	late.Publish(box)
	until("late is mounted", ready)

	for _, h := range []string{"stays", "goes"} {
		if _, err := c.Lower(t.Context(), control.LowerRequest{Ref: raw(t, late.Name, "/tree"), Handle: h}); err != nil {
			t.Fatal(err)
		}
	}
	do(t, c, cell.CallWarm, cell.Paths{Paths: []string{"cvmfs://" + late.Name + "/-/tree"}}, nil)
	late.Fault("", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) })
	mnt := o.Repositories[1].Mountpoint
	until("unmounted", func() bool { return unix.Unmount(mnt, 0) == nil })
	until("noticed", func() bool { return !ready() })
	if err := c.Release(t.Context(), "goes"); err != nil {
		t.Error(err)
	}
	// Offline, so from what was verified last.
	until("mounted again", ready)
	if b, err := cat(mnt + "/tree/etc/hostname"); err != nil || string(b) != "box" {
		t.Errorf("%q, %v", b, err)
	}
	all, err := c.Containers(t.Context())
	if err != nil || len(all) != 1 || all[0].Handle != "stays" {
		t.Errorf("%+v, %v", all, err)
	}
}

// The background scrub finds what nobody opens.
func TestBackgroundScrub(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(testrepo.Tree{"/file": testrepo.Text("some text")})
	o := options(t, repo)
	o.ScrubRate = 1 << 20
	daemon, c, _ := start(t, o)
	do(t, c, cell.CallWarm, cell.Paths{Paths: []string{"/file"}}, nil)
	path := filepath.Join(o.CacheDir, object.ContentOf([]byte("some text")).CachePath())
	if err := os.WriteFile(path, []byte("evil text"), 0); err != nil {
		t.Fatal(err)
	}
	for range 600 {
		if b, err := os.ReadFile(path); err == nil && string(b) == "some text" {
			if _, body := get(t, daemon, "/metrics"); !strings.Contains(body, "rootstock_cache_damaged_total 1\n") {
				t.Error("not counted")
			}
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("the damage stays")
}

// When the whitelist runs out, what runs goes on and nothing new begins, but for
// the grace; a new whitelist ends that.
func TestWhitelistRunsOut(t *testing.T) {
	clk := &clock{t: time.Now()}
	repo := testrepo.New(t, testrepo.Options{Expires: clk.now().Add(24 * time.Hour)})
	repo.Publish(box)
	o := options(t, repo)
	o.Clock, o.Grace = clk.now, 3*time.Hour // whitelists end at full hours
	daemon, c, stop := start(t, o)
	lower := func(handle string) error {
		_, err := c.Lower(t.Context(), control.LowerRequest{Ref: raw(t, repo.Name, "/tree"), Handle: handle})
		return err
	}
	if err := lower("before"); err != nil {
		t.Fatal(err)
	}
	clk.add(24*time.Hour + 30*time.Minute)
	list, err := daemon.Refresh(t.Context())
	if err != nil || !strings.Contains(list[0].Error, "expired") {
		t.Errorf("refresh: %+v, %v", list, err)
	}
	if err := lower("grace"); err != nil {
		t.Errorf("within the grace: %v", err)
	}
	// Within the grace a restart works, too: the server has nothing better.
	stop()
	daemon, c, _ = start(t, o)
	if _, err := cat(filepath.Join(o.Repositories[0].Mountpoint, "tree/etc/hostname")); err != nil {
		t.Errorf("after a restart within the grace: %v", err)
	}
	clk.add(4 * time.Hour)
	if err := lower("after"); !errors.Is(err, control.ErrUnavailable) || !strings.Contains(err.Error(), "has expired") {
		t.Errorf("after the grace: %v", err)
	}
	if b, err := cat(filepath.Join(o.Repositories[0].Mountpoint, "tree/etc/hostname")); err != nil || string(b) != "box" {
		t.Errorf("what runs: %q, %v", b, err)
	}
	if status, _ := get(t, daemon, "/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("ready: %d", status)
	}
	repo.Whitelist(clk.now().Add(24 * time.Hour))
	if list, err := daemon.Refresh(t.Context()); err != nil || list[0].Error != "" {
		t.Errorf("refresh with a new whitelist: %+v, %v", list, err)
	}
	if err := lower("after"); err != nil {
		t.Error(err)
	}
}

// What is pinned is evicted last, also after a restart, and after the path it was
// found at has gone.
func TestPinsOfPaths(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(testrepo.Tree{
		"/tree": testrepo.Nested(), "/tree/keep": testrepo.Text(strings.Repeat("keep", 1000)),
		"/other": testrepo.Text(strings.Repeat("other", 1000)),
	})
	o := options(t, repo)
	_, c, stop := start(t, o)
	do(t, c, cell.CallPin, cell.Paths{Paths: []string{"/tree"}}, nil)
	var warmed cell.Warmed
	do(t, c, cell.CallWarm, cell.Paths{Paths: []string{"/"}}, &warmed)
	if warmed.Fetched != 9000 || warmed.Failures != 0 {
		t.Errorf("%+v", warmed)
	}
	stop()
	repo.Publish(testrepo.Tree{"/another": testrepo.Text("x")})
	_, c, _ = start(t, o)
	cached := func(path string) bool {
		var list []cell.Explained
		do(t, c, cell.CallExplain, cell.Paths{Paths: []string{path}}, &list)
		return list[0].Objects[0].Cached
	}
	var pins []cell.FixedPin
	do(t, c, cell.CallPins, nil, &pins)
	if len(pins) != 1 || pins[0].Path != "/tree" {
		t.Fatalf("%+v", pins)
	}
	kept := "/.cvmfs/roots/" + pins[0].Catalog.String() + "/keep"
	// The other file is enough, and was used later.
	do(t, c, cell.CallEvict, cell.Evict{Bytes: 5000}, nil)
	if !cached(kept) {
		t.Error("a pinned content was evicted while others were there")
	}
	do(t, c, cell.CallUnpin, cell.Paths{Paths: []string{"/tree"}}, nil)
	do(t, c, cell.CallPins, nil, &pins)
	if len(pins) != 0 {
		t.Errorf("%+v", pins)
	}
}

func TestRefusals(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(box)
	_, c, _ := start(t, options(t, repo))
	for name, tc := range map[string]struct {
		call   string
		params any
		want   error
	}{
		"absent path":    {cell.CallWarm, cell.Paths{Paths: []string{"/nothing"}}, control.ErrNotFound},
		"no path":        {cell.CallExplain, cell.Paths{Paths: []string{""}}, control.ErrInvalid},
		"no reference":   {cell.CallPin, cell.Paths{Paths: []string{"what is this"}}, control.ErrInvalid},
		"negative":       {cell.CallEvict, cell.Evict{Bytes: -1}, control.ErrInvalid},
		"not pinned":     {cell.CallUnpin, cell.Paths{Paths: []string{"/tree"}}, control.ErrNotFound},
		"other mount":    {cell.CallRefresh, cell.Names{Names: []string{"x.example.org"}}, control.ErrNotFound},
		"unknown fields": {cell.CallDrain, map[string]any{"undoo": true}, control.ErrInvalid},
	} {
		if err := c.Do(t.Context(), tc.call, tc.params, nil, nil); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Metrics and their list are the same, promtool likes their names, and alerts and
// dashboard use only what there is.
func TestMetricsAreDocumented(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(box)
	daemon, c, _ := start(t, options(t, repo))
	lower(t, c, "cvmfs://"+repo.Name+"/-/tree", "h")
	status, body := get(t, daemon, "/metrics")
	if status != http.StatusOK {
		t.Fatalf("%d: %s", status, body)
	}
	imageTier := strings.Contains(body, "rootstock_image_trees")
	if !imageTier {
		t.Log("this kernel has no image tier: its metrics go unchecked")
	}
	exported := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(body, -1) {
		exported[m[1]+" "+m[2]] = true
	}
	doc, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented, names := map[string]bool{}, map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(rootstock_\\w+)` \\| (\\w+) \\| ([\\w, ]*) ?\\|").FindAllStringSubmatch(string(doc), -1) {
		documented[m[1]+" "+m[2]] = true
		names[m[1]] = true
		line := regexp.MustCompile(`(?m)^` + m[1] + `(_sum)?(\{[^}]*\})? `).FindStringSubmatch(body)
		if line == nil {
			if strings.HasPrefix(m[1], "rootstock_image_") && !imageTier {
				continue
			}
			t.Errorf("%s has no sample", m[1])
			continue
		}
		var labels []string
		for _, l := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(line[2], -1) {
			labels = append(labels, l[1])
		}
		slices.Sort(labels)
		want := strings.FieldsFunc(m[3], func(r rune) bool { return r == ',' || r == ' ' })
		slices.Sort(want)
		if !slices.Equal(labels, want) {
			t.Errorf("%s has labels %v, documented are %v", m[1], labels, want)
		}
	}
	for m := range exported {
		if !documented[m] {
			t.Errorf("%s is not in docs/metrics.md", m)
		}
	}
	for m := range documented {
		if strings.HasPrefix(m, "rootstock_image_") && !imageTier {
			continue
		}
		if !exported[m] {
			t.Errorf("%s is documented and not exported", m)
		}
	}
	for _, file := range []string{"alerts.yaml", "alerts_test.yaml", "dashboard.json"} {
		text, err := os.ReadFile("../monitoring/" + file)
		if err != nil {
			t.Fatal(err)
		}
		used := regexp.MustCompile(`rootstock_[a-z_]+`).FindAllString(string(text), -1)
		if len(used) < 5 {
			t.Errorf("%s uses only %v", file, used)
		}
		for _, m := range used {
			if m = strings.TrimSuffix(strings.TrimSuffix(m, "_sum"), "_count"); !names[m] {
				t.Errorf("%s uses %s, which is not exported", file, m)
			}
		}
	}
	promtool(t, body, "check", "metrics")
	promtool(t, "", "check", "rules", "../monitoring/alerts.yaml")
	promtool(t, "", "test", "rules", "../monitoring/alerts_test.yaml")
	var dashboard struct{ Panels []any }
	text, _ := os.ReadFile("../monitoring/dashboard.json")
	if err := json.Unmarshal(text, &dashboard); err != nil || len(dashboard.Panels) == 0 {
		t.Errorf("dashboard: %v", err)
	}
}

func promtool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("SKIPPED: promtool (package prometheus) is missing, so names and rules go unchecked")
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil || args[1] == "metrics" && len(out) > 0 {
		t.Errorf("promtool %v: %v\n%s", args, err, out)
	}
}

func get(t *testing.T, c *cell.Cell, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	c.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	b, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(b)
}

func do(t *testing.T, c *control.Client, call string, params, result any) {
	t.Helper()
	if err := c.Do(t.Context(), call, params, result, nil); err != nil {
		t.Fatalf("%s: %v", call, err)
	}
}
