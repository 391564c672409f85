// Package controltest is a cell's daemon for tests: a real control.Server on a
// real socket, whose trees are plain directories.
package controltest

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/reference"
)

// Daemon serves Trees by the text of their reference and keeps account of who
// has one pinned.
type Daemon struct {
	Socket string

	mu    sync.Mutex
	trees map[string]control.Lower
	pins  map[string]control.Container
	// droplets has what was said of them by handle.
	droplets map[string]string
	// mapped has the layers with mapped ids by reference.
	mapped map[string][]string
	old    bool
	stop   func()
	wished []control.WishRequest
	asked  []control.PullRequest
	allow  func(control.PullRequest) error
}

var (
	_ control.Lowers   = (*Daemon)(nil)
	_ control.Reporter = (*Daemon)(nil)
	_ control.Asker    = (*Daemon)(nil)
)

// Start serves trees, keyed by reference, until the test ends.
func Start(t testing.TB, trees map[string]control.Lower) *Daemon {
	t.Helper()
	d := &Daemon{
		Socket: filepath.Join(t.TempDir(), "cell.sock"),
		trees:  trees,
		pins:   map[string]control.Container{}, droplets: map[string]string{},
		stop: func() {},
	}
	d.Restart(t)
	t.Cleanup(func() { d.Stop() })
	return d
}

// Restart begins to serve again after Stop, with the pins there were.
func (d *Daemon) Restart(t testing.TB) {
	t.Helper()
	l, err := control.Listen(d.Socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- (&control.Server{Lowers: d, Reports: d, Asks: d, Calls: d.calls()}).Serve(ctx, l) }()
	d.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("control server: %v", err)
		}
	})
}

// Stop ends serving; clients then find nobody.
func (d *Daemon) Stop() { d.stop() }

// Client returns a client of the daemon.
func (d *Daemon) Client() *control.Client { return &control.Client{Socket: d.Socket} }

// Pins returns the handles that have a tree pinned, sorted.
func (d *Daemon) Pins() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.pins))
}

// Droplet returns the digest that was said of a handle's droplet.
func (d *Daemon) Droplet(handle string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.droplets[handle]
}

// Lower implements control.Lowers.
func (d *Daemon) Lower(_ context.Context, r control.LowerRequest) (control.Lower, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l, ok := d.trees[r.Ref.String()]
	if !ok {
		return control.Lower{}, fmt.Errorf("%w: nothing is published under this name", control.ErrNotFound)
	}
	if d.old && len(r.UIDMaps) > 0 {
		return control.Lower{}, fmt.Errorf("%w: unknown field uid_maps", control.ErrInvalid)
	}
	if len(r.UIDMaps) > 0 || len(r.GIDMaps) > 0 {
		l.Mapped = d.mapped[r.Ref.String()]
	}
	d.droplets[r.Handle] = r.Droplet
	d.pins[r.Handle] = control.Container{
		Handle: r.Handle, Ref: r.Ref, Tree: l.Tree, Version: l.Version, Since: time.Now().UTC(),
	}
	return l, nil
}

// Release implements control.Lowers.
func (d *Daemon) Release(_ context.Context, handle string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.pins, handle)
	return nil
}

// Add serves more trees.
func (d *Daemon) Add(trees map[string]control.Lower) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.Copy(d.trees, trees)
}

// Map makes layers those of a tree for containers that have a user namespace.
func (d *Daemon) Map(ref string, layers ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mapped == nil {
		d.mapped = map[string][]string{}
	}
	d.mapped[ref] = layers
}

// Age makes the daemon one that knows of no user namespaces.
func (d *Daemon) Age() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.old = true
}

// Allow makes f the registries' answer; without it, they deny everything.
func (d *Daemon) Allow(f func(control.PullRequest) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.allow = f
}

// Asked returns what registries were asked.
func (d *Daemon) Asked() []control.PullRequest {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asked)
}

// MayPull implements control.Asker.
func (d *Daemon) MayPull(_ context.Context, r control.PullRequest) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, r)
	if d.allow == nil {
		return fmt.Errorf("%w: nobody may", control.ErrDenied)
	}
	return d.allow(r)
}

// Wished returns what a publisher would have been told of.
func (d *Daemon) Wished() []control.WishRequest {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.wished)
}

func (d *Daemon) calls() map[string]control.Call {
	return map[string]control.Call{
		control.CallWish: control.Handle(func(_ context.Context, r control.WishRequest) (struct{}, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.wished = append(d.wished, r)
			return struct{}{}, nil
		}),
	}
}

// Status implements control.Reporter.
func (d *Daemon) Status(context.Context) (any, error) {
	return map[string]any{"containers": len(d.Pins())}, nil
}

// Containers implements control.Reporter.
func (d *Daemon) Containers(context.Context) ([]control.Container, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Values(d.pins)), nil
}

// Tree describes a directory as the lower of a root file system.
func Tree(dir, version string, bytes int64) control.Lower {
	return control.Lower{
		Tree: fmt.Sprintf("%064x", len(dir)), Kind: reference.Rootfs, Name: "test", Version: version,
		Lower: []string{dir}, Env: []string{"PATH=/bin", "FROM_IMAGE=yes"}, Bytes: bytes, Entries: 1,
	}
}
