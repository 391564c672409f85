// Package startup records what the containers of a cell open in the time after
// they were made: per tree and process type, which contents the kernel asked the
// daemon for, in order.
//
// Pins and opened contents flow in, profile documents out: into files, one for
// each tree, that operators collect. A content that was cached is read by the
// kernel alone and is not seen here; the documents of several cells, and of
// several starts, are merged where they are published.
package startup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/renameio/v2"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/imagemeta/profile"
	"github.com/rootstock-cf/rootstock/object"
)

// Defaults of [Options].
const (
	DefaultWindow = 30 * time.Second
	DefaultTrees  = 256
)

// suffix ends the files' names.
const suffix = ".json"

// askTime bounds what is waited for a container's process type.
const askTime = 5 * time.Second

// Options describe a recorder. Dir and Naming have no default.
type Options struct {
	Dir string // private to the recorder
	// Window is how long after it was made a container is watched.
	Window time.Duration
	// Trees is how many trees are remembered; the one that was longest not
	// heard of goes first.
	Trees int
	// Naming returns the trees in use that have a content. It must not wait.
	Naming func(object.ContentID) []imagemeta.TreeID
	// Process returns the process type of a container, "" if unknown. nil
	// knows none.
	Process func(ctx context.Context, handle string) string
	Clock   func() time.Time
	Log     *slog.Logger
}

// Recorder records. All methods may be called concurrently.
type Recorder struct {
	o    Options
	open atomic.Int64 // windows; an open content costs nothing while there is none

	mu      sync.Mutex
	windows map[string]*window // by handle
	closed  bool

	files sync.Mutex     // held while files are read and written
	work  sync.WaitGroup // of windows that are ending
}

// window is one container's time of starting. mu of the recorder guards it.
type window struct {
	handle string
	tree   imagemeta.TreeID
	begin  time.Time
	timer  *time.Timer
	seen   map[object.ContentID]bool
	opens  []profile.Open
}

// New returns a recorder that writes below o.Dir. The caller closes it.
func New(o Options) (*Recorder, error) {
	if o.Window <= 0 {
		o.Window = DefaultWindow
	}
	if o.Trees <= 0 {
		o.Trees = DefaultTrees
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("startup profiles: %w", err)
	}
	return &Recorder{o: o, windows: map[string]*window{}}, nil
}

// Begin watches a container that is being made on a tree.
func (r *Recorder) Begin(handle string, tree imagemeta.TreeID) {
	r.End(handle)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	w := &window{handle: handle, tree: tree, begin: r.o.Clock(), seen: map[object.ContentID]bool{}}
	w.timer = time.AfterFunc(r.o.Window, func() { r.end(handle, w) })
	r.windows[handle] = w
	r.open.Store(int64(len(r.windows)))
}

// Opened notes that the kernel asked for a content. Which container made it do
// so nobody knows: it counts for all that are starting on a tree that has it.
func (r *Recorder) Opened(id object.ContentID) {
	if r.open.Load() == 0 {
		return
	}
	trees := r.o.Naming(id)
	now := r.o.Clock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.windows {
		if w.seen[id] || len(w.opens) >= profile.MaxOpens || !slices.Contains(trees, w.tree) {
			continue
		}
		w.seen[id] = true
		w.opens = append(w.opens, profile.Open{Content: id, Millis: max(0, now.Sub(w.begin).Milliseconds())})
	}
}

// End ends the watching of a container before its time, say because it is gone.
func (r *Recorder) End(handle string) { r.end(handle, nil) }

// end ends the window of handle, if it is w or w is nil, and keeps what was
// seen. Files and Garden are not waited for.
func (r *Recorder) end(handle string, w *window) {
	r.mu.Lock()
	defer r.mu.Unlock()
	is := r.windows[handle]
	if is == nil || w != nil && is != w {
		return
	}
	delete(r.windows, handle)
	r.open.Store(int64(len(r.windows)))
	is.timer.Stop()
	if len(is.opens) > 0 {
		r.work.Go(func() { r.keep(is) })
	}
}

// Close ends all windows and waits until what was seen is kept.
func (r *Recorder) Close() {
	r.mu.Lock()
	r.closed = true
	var handles []string
	for h := range r.windows {
		handles = append(handles, h)
	}
	r.mu.Unlock()
	for _, h := range handles {
		r.End(h)
	}
	r.work.Wait()
}

// keep merges a window into its tree's file.
func (r *Recorder) keep(w *window) {
	p := profile.Profile{Opens: w.opens}
	if r.o.Process != nil {
		ctx, cancel := context.WithTimeout(context.Background(), askTime)
		if name := r.o.Process(ctx, w.handle); profile.CheckProcess(name) == nil {
			p.Process = name
		}
		cancel()
	}
	r.files.Lock()
	defer r.files.Unlock()
	if err := r.merge(profile.Document{Tree: w.tree, Profiles: []profile.Profile{p}}); err != nil {
		r.o.Log.Warn("startup profile not kept", "tree", w.tree.String(), "error", err)
	}
}

// merge is called with files held.
func (r *Recorder) merge(d profile.Document) error {
	path := filepath.Join(r.o.Dir, d.Tree.String()+suffix)
	was, err := load(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		// Worth less than the new one.
		r.o.Log.Warn("startup profile begun anew", "tree", d.Tree.String(), "error", err)
	}
	d.Merge(profile.Document{}) // sorts
	if err == nil && was.Tree == d.Tree {
		was.Merge(d)
		d = was
	}
	raw, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(path, raw, 0o600, renameio.WithTempDir(r.o.Dir)); err != nil {
		return err
	}
	return r.prune()
}

func load(path string) (profile.Document, error) {
	f, err := os.Open(path) // #nosec G304 -- our own directory
	if err != nil {
		return profile.Document{}, err
	}
	defer f.Close() //nolint:errcheck // read only
	all, err := profile.Read(f)
	if err == nil && len(all) != 1 {
		err = profile.ErrInvalid
	}
	if err != nil {
		return profile.Document{}, err
	}
	return all[0], nil
}

// names returns the files, oldest first. It is called with files held.
func (r *Recorder) names() ([]string, error) {
	list, err := os.ReadDir(r.o.Dir)
	if err != nil {
		return nil, err
	}
	type file struct {
		name string
		at   time.Time
	}
	var all []file
	for _, e := range list {
		info, err := e.Info()
		if err != nil || filepath.Ext(e.Name()) != suffix {
			continue
		}
		all = append(all, file{e.Name(), info.ModTime()})
	}
	slices.SortFunc(all, func(a, b file) int { return a.at.Compare(b.at) })
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].name
	}
	return names, nil
}

func (r *Recorder) prune() error {
	names, err := r.names()
	for i := 0; err == nil && len(names)-i > r.o.Trees; i++ {
		err = os.Remove(filepath.Join(r.o.Dir, names[i]))
	}
	return err
}

// Documents calls yield with what is known of each tree, oldest first, until it
// returns an error. A file that cannot be read is left out and said.
func (r *Recorder) Documents(yield func(profile.Document) error) error {
	r.files.Lock()
	names, err := r.names()
	r.files.Unlock()
	if err != nil {
		return fmt.Errorf("startup profiles: %w", err)
	}
	for _, name := range names {
		d, err := load(filepath.Join(r.o.Dir, name))
		if err != nil {
			r.o.Log.Warn("startup profile is left out", "file", name, "error", err)
			continue
		}
		if err := yield(d); err != nil {
			return err
		}
	}
	return nil
}
