package cell

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/cell/droplets"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/inventory/droplet"
	"github.com/rootstock-cf/rootstock/inventory/fleet"
)

// Droplets say how containers are looked at that were given a droplet without
// the plugin seeing it. Droplets that come through the plugin are read as they
// come, without any of this.
type Droplets struct {
	// Containers is the directory of the plugin's containers, STORE/containers;
	// "" looks at none.
	Containers string
	// Rate is how many bytes per second are read; 0 is DefaultDropletRate.
	Rate int64
	// After is how long a container has run before it is looked at; 0 is
	// DefaultDropletAfter.
	After time.Duration
}

// Defaults of [Droplets].
const (
	DefaultDropletRate  = 8 << 20
	DefaultDropletAfter = 5 * time.Minute
)

const (
	// appDir is where Diego puts a droplet.
	appDir = "home/vcap"
	// emptyFor is how long a container without files is looked at again.
	emptyFor = time.Hour
	// dropletPause is the most time between two looks for new containers.
	dropletPause = 30 * time.Second
	// listPause is between some entries of a directory and the next.
	listPause = 2 * time.Millisecond
)

// looked remembers the droplets of containers that were looked at.
type looked struct {
	mu       sync.Mutex
	byHandle map[string]string // digest, "" for nothing found
}

// of returns the digest of a container's droplet, as the plugin or the reader
// found it.
func (l *looked) of(p *pin) string {
	if p.Droplet != "" {
		return p.Droplet
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byHandle[p.Handle]
}

func openDroplets(c *cache.Cache) (*droplets.Store, error) {
	return droplets.Open(filepath.Join(c.Dir(), "state", "droplets"))
}

// DropletFile is the parameter of CallDroplet, and its result: where to put the
// packages document of a droplet. File is empty if the cell has it.
type DropletFile struct {
	Digest string `json:"digest"`
	File   string `json:"file,omitempty"`
}

func (c *Cell) dropletFile(_ context.Context, p DropletFile) (DropletFile, error) {
	file, known, err := c.droplets.Path(p.Digest)
	if err != nil {
		return DropletFile{}, fmt.Errorf("%w: %w", control.ErrInvalid, err)
	}
	if known {
		return DropletFile{Digest: p.Digest}, nil
	}
	c.trimDroplets()
	return DropletFile{Digest: p.Digest, File: file}, nil
}

// trimDroplets drops what is known of droplets that nobody runs, if it is much.
func (c *Cell) trimDroplets() {
	used := map[string]bool{}
	for _, m := range c.mounted() {
		for _, p := range m.pins.all() {
			used[c.looked.of(&p)] = true
		}
	}
	if err := c.droplets.Trim(used); err != nil {
		c.o.Log.Warn("what droplets consist of is not trimmed", "error", err)
	}
}

// serveDroplet answers with a droplet's packages document.
func (c *Cell) serveDroplet(w http.ResponseWriter, r *http.Request) {
	b, err := c.droplets.Read(r.URL.Query().Get(fleet.DigestKey))
	if errors.Is(err, fs.ErrNotExist) {
		http.Error(w, "that droplet was not read here", http.StatusNotFound)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(b); err != nil {
		c.o.Log.Debug("fleet answer", "error", err)
	}
}

// readDroplets looks at containers that have run for a while, one at a time.
func (c *Cell) readDroplets(ctx context.Context) {
	o := c.o.Droplets
	for {
		for _, p := range c.unlooked(o.After) {
			digest, done, err := c.look(ctx, &p)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				c.o.Log.Info("a container's droplet is not read", "container", p.Handle, "error", err)
			}
			if done || c.o.Clock().Sub(p.Since) > emptyFor {
				c.looked.mu.Lock()
				c.looked.byHandle[p.Handle] = digest
				c.looked.mu.Unlock()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(o.After, dropletPause)):
		}
	}
}

// unlooked are the containers to be looked at. Those that are gone are
// forgotten.
func (c *Cell) unlooked(after time.Duration) (list []pin) {
	there := map[string]bool{}
	for _, m := range c.mounted() {
		for _, p := range m.pins.all() {
			there[p.Handle] = true
			if p.Droplet == "" && !strings.Contains(p.Handle, "+") && c.o.Clock().Sub(p.Since) >= after {
				list = append(list, p)
			}
		}
	}
	c.looked.mu.Lock()
	defer c.looked.mu.Unlock()
	if c.looked.byHandle == nil {
		c.looked.byHandle = map[string]string{}
	}
	for handle := range c.looked.byHandle {
		if !there[handle] {
			delete(c.looked.byHandle, handle)
		}
	}
	n := 0
	for _, p := range list {
		if _, ok := c.looked.byHandle[p.Handle]; !ok {
			list[n] = p
			n++
		}
	}
	return list[:n]
}

// look lists what a container was given, and reads it if no container before it
// was given the same. done is false if there is nothing yet.
func (c *Cell) look(ctx context.Context, p *pin) (digest string, done bool, err error) {
	upper, err := os.OpenRoot(filepath.Join(c.o.Droplets.Containers, p.Handle, "upper"))
	if err != nil {
		return "", false, err
	}
	defer upper.Close() //nolint:errcheck // read only
	app, err := upper.OpenRoot(appDir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", true, err
	}
	defer app.Close() //nolint:errcheck // read only
	given, err := droplet.List(ctx, app, p.Since, c.pace)
	if err != nil {
		return "", true, err
	}
	if given.Empty() {
		return "", false, nil
	}
	file, known, err := c.droplets.Path(given.Digest)
	if err != nil || known {
		return given.Digest, true, err
	}
	v, err := given.Read(ctx, c.pace)
	if err != nil {
		return given.Digest, true, err
	}
	c.trimDroplets()
	return given.Digest, true, droplets.Write(file, v)
}

// pace waits as long as n bytes are to take; for directories, a moment.
func (c *Cell) pace(ctx context.Context, n int64) error {
	wait := listPause
	if n > 0 {
		wait = time.Duration(float64(n) / float64(c.o.Droplets.Rate) * float64(time.Second))
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
		return nil
	}
}
