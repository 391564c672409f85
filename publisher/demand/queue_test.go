package demand_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/demand"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/store"
)

const busybox = "docker.io/library/busybox:1"

// bench is a queue whose publisher does as it is told.
type bench struct {
	t    *testing.T
	o    demand.Options
	mu   sync.Mutex
	runs [][]string // names of images by revision
	has  map[reference.Reference]publisher.Listed
	// fail says what becomes of an image; apply, if not nil, of a whole run.
	fail  func(image string) error
	apply func() error
	now   time.Time
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, has: map[reference.Reference]publisher.Listed{}, now: time.Unix(1e9, 0)}
	b.o = demand.Options{
		File: filepath.Join(t.TempDir(), "queue"), Allowed: demand.Allowed{"docker.io/library", "ghcr.io"}, Every: time.Millisecond,
		Open: func(context.Context) (demand.Applier, error) { return b, nil },
		Published: func(_ context.Context, ref reference.Reference) (publisher.Listed, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			l, ok := b.has[ref]
			if !ok {
				return l, fmt.Errorf("%s: %w", ref, publisher.ErrNotFound)
			}
			return l, nil
		},
		Now: func() time.Time { return b.now },
	}
	return b
}

func (b *bench) queue() *demand.Queue {
	b.t.Helper()
	q, err := demand.New(b.o)
	if err != nil {
		b.t.Fatal(err)
	}
	return q
}

// Apply implements demand.Applier.
func (b *bench) Apply(_ context.Context, _ string, steps []publisher.Step, _ func(int, publisher.Outcome)) ([]publisher.Outcome, uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.apply != nil {
		if err := b.apply(); err != nil {
			return nil, 0, err
		}
	}
	rev := uint64(len(b.runs) + 2)
	var all []publisher.Outcome
	var names []string
	for _, s := range steps {
		names = append(names, s.String())
		o := publisher.Outcome{Step: s, Changed: true, Result: &publisher.Result{Tree: "tree of " + s.String(), Revision: rev}}
		if b.fail != nil {
			if err := b.fail(s.String()); err != nil {
				o = publisher.Outcome{Step: s, Err: err}
			}
		}
		all = append(all, o)
	}
	b.runs = append(b.runs, names)
	return all, rev, nil
}

// run lets the queue work until nothing waits.
func (b *bench) run(q *demand.Queue) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { q.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	for {
		busy := false
		for _, e := range q.All() {
			busy = busy || e.State == demand.Waiting || e.State == demand.Running
		}
		if !busy {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func (b *bench) ask(q *demand.Queue, image string) demand.Entry {
	b.t.Helper()
	e, err := q.Ask(b.t.Context(), image, false)
	if err != nil {
		b.t.Fatal(err)
	}
	return e
}

// What waits becomes one revision, each image once.
func TestTogetherAndOnce(t *testing.T) {
	b := newBench(t)
	q := b.queue()
	first := b.ask(q, busybox)
	if again := b.ask(q, busybox); again.ID != first.ID || again.State != demand.Waiting {
		t.Errorf("asked for again: %+v, first %+v", again, first)
	}
	b.ask(q, "ghcr.io/team/app:2")
	b.run(q)
	if len(b.runs) != 1 || len(b.runs[0]) != 2 {
		t.Fatalf("runs %q", b.runs)
	}
	e, ok := q.Status(first.ID)
	if !ok || e.State != demand.Published || e.Revision != 2 || e.Tree != "tree of "+busybox || e.Finished == nil {
		t.Errorf("in the end %+v", e)
	}
	// Published by now, it is not published again unless somebody says so.
	b.has[reference.Reference{Kind: reference.Images, Name: "docker.io/library/busybox", Version: "1"}] = publisher.Listed{Tree: e.Tree}
	if e := b.ask(q, busybox); e.State != demand.Published {
		t.Errorf("asked for when published: %+v", e)
	}
	if e, err := q.Ask(t.Context(), busybox, true); err != nil || e.State != demand.Waiting {
		t.Errorf("asked for anew: %+v, %v", e, err)
	}
	b.run(q)
	if len(b.runs) != 2 {
		t.Errorf("runs %q", b.runs)
	}
}

func TestWhatIsNotTaken(t *testing.T) {
	b := newBench(t)
	b.o.Limit = 2
	q := b.queue()
	for image, want := range map[string]error{
		"":                                demand.ErrName,
		"busybox":                         demand.ErrName,
		"docker.io/library/busybox":       demand.ErrName,
		"docker.io/library/busybox:":      demand.ErrName,
		"docker.io/library/busybox@x":     demand.ErrName,
		"docker.io/library/busybox:1@x:y": demand.ErrName,
		"docker.io/../x:1":                demand.ErrName,
		"docker.io/library/" + strings.Repeat("x", 2000) + ":1":       demand.ErrName,
		"docker.io/librarys/busybox:1":                                demand.ErrDenied,
		"docker.io/other/busybox:1":                                   demand.ErrDenied,
		"ghcr.io.evil.example/team/app:1":                             demand.ErrDenied,
		"169.254.169.254/latest/meta:1":                               demand.ErrDenied,
		"registry.internal:5000/library/busybox:1":                    demand.ErrDenied,
		"docker.io/library/busybox@sha256:" + strings.Repeat("g", 64): demand.ErrName,
	} {
		if _, err := q.Ask(t.Context(), image, false); !errors.Is(err, want) {
			t.Errorf("%.60q: %v, want %v", image, err, want)
		}
	}
	b.ask(q, busybox)
	b.ask(q, "docker.io/library/busybox@sha256:"+strings.Repeat("a", 64))
	if _, err := q.Ask(t.Context(), "ghcr.io/x/y:1", false); !errors.Is(err, demand.ErrFull) {
		t.Errorf("a third of two: %v", err)
	}
	b.ask(q, busybox) // what waits is told of all the same
	if n := len(q.All()); n != 2 {
		t.Errorf("%d entries", n)
	}
}

// What was noted outlives the process, also what it was about.
func TestOutlivesTheProcess(t *testing.T) {
	b := newBench(t)
	b.fail = func(image string) error {
		if strings.HasPrefix(image, "ghcr.io/") {
			return errors.New("no such image")
		}
		return nil
	}
	q := b.queue()
	bad := b.ask(q, "ghcr.io/x/y:1")
	b.run(q)
	waiting := b.ask(q, busybox)
	q = b.queue()
	if e, _ := q.Status(waiting.ID); e.State != demand.Waiting {
		t.Errorf("after a restart %+v", e)
	}
	if e, _ := q.Status(bad.ID); e.State != demand.Failed || e.Error != "no such image" {
		t.Errorf("after a restart %+v", e)
	}
	if _, err := q.Ask(t.Context(), bad.Image, false); !errors.Is(err, demand.ErrFailed) || !strings.Contains(err.Error(), "no such image") {
		t.Errorf("asked for at once after it failed: %v", err)
	}
	b.now = b.now.Add(11 * time.Minute)
	b.ask(q, bad.Image)
	b.run(q)
	if e, _ := q.Status(waiting.ID); e.State != demand.Published {
		t.Errorf("in the end %+v", e)
	}
	// What is not allowed any more is dropped.
	b.o.Allowed = demand.Allowed{"ghcr.io"}
	if all := b.queue().All(); len(all) != 1 || all[0].ID != bad.ID {
		t.Errorf("left %+v", all)
	}
	if err := os.WriteFile(b.o.File, []byte(`{"id":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := demand.New(b.o); err == nil || !strings.Contains(err.Error(), b.o.File) {
		t.Errorf("a damaged queue: %v", err)
	}
	b.o.File = filepath.Join(t.TempDir(), "none", "queue")
	if _, err := demand.New(b.o); err == nil {
		t.Error("a queue that cannot be written was taken")
	}
}

// A queue that cannot be written notes nothing.
func TestNothingIsNotedInVain(t *testing.T) {
	b := newBench(t)
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b.o.File = filepath.Join(dir, "queue")
	q := b.queue()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Ask(t.Context(), busybox, false); err == nil {
		t.Error("noted although it could not be written")
	}
	if all := q.All(); len(all) != 0 {
		t.Errorf("left %+v", all)
	}
}

// While somebody else publishes, or nothing works, all wait on.
func TestWaitsForOthers(t *testing.T) {
	b := newBench(t)
	tries := 0
	b.apply = func() error {
		if tries++; tries < 4 {
			return fmt.Errorf("lock: %w", store.ErrConflict)
		}
		return nil
	}
	q := b.queue()
	e := b.ask(q, busybox)
	b.run(q)
	if e, _ = q.Status(e.ID); e.State != demand.Published || tries != 4 {
		t.Errorf("after %d tries %+v", tries, e)
	}
}

// However many are asked for, no revision has more than 64, and old ones are
// forgotten.
func TestBounds(t *testing.T) {
	b := newBench(t)
	b.o.Limit, b.o.Remember = 70, 10
	q := b.queue()
	var first demand.Entry
	for round := range 2 {
		for i := range 70 {
			e := b.ask(q, fmt.Sprintf("ghcr.io/x/y:%d", round*70+i))
			if round+i == 0 {
				first = e
			}
		}
		b.run(q)
	}
	for _, r := range b.runs {
		if len(r) > 64 {
			t.Errorf("%d images in one revision", len(r))
		}
	}
	if n := len(q.All()); n > 80 {
		t.Errorf("%d are remembered", n)
	}
	if _, ok := q.Status(first.ID); ok {
		t.Error("the first is remembered")
	}
}
