// Package check proves that a repository is what its manifest claims: every
// signature, catalog, count and object, and that each tree's listing, objects
// table and catalog say the same.
//
// [Run] walks all catalogs that the manifest, or with tags the history, leads
// to. What it finds wrong goes, one by one, to a callback; it never stops at
// the first. The rules are those of the stock checker (CVMFS-FORMAT 2.14), the
// content behind the names, and Rootstock's own (docs/design/tree.md).
//
// A repository is hostile until checked: everything is bounded, nothing of it
// is believed before it has been verified, and memory holds a few catalogs at
// a time, whatever the number of objects.
package check

import (
	"context"
	"crypto/rsa"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/store"
)

// Options say what to check.
type Options struct {
	// Store is the repository: a store, or whatever else serves its files.
	// A Getter that also has the method Has of store.Store is asked by it
	// whether an object exists.
	Store store.Getter
	// Masters are master public keys, one of which must have signed the
	// whitelist; with none, nobody's signature on it is asked for.
	Masters []*rsa.PublicKey
	// NoContent only looks whether objects exist.
	NoContent bool
	// Tags checks all revisions that have a name, not the newest alone.
	Tags bool
	// Workers read at once; 0 is one per processor.
	Workers int
	// TempDir takes catalogs and sorted names; "" is the system's.
	TempDir string
	// Found gets each finding, one at a time.
	Found func(Finding)
	// Progress is counted up meanwhile; may be nil.
	Progress *Progress
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Report is what a check came to.
type Report struct {
	Name     string // of the repository, as far as it could be read
	Revision uint64
	Catalogs int64
	Trees    int64 // under their paths; one id may be several
	Objects  int64 // distinct
	Bytes    int64 // stored, that were read
	Findings int64 // without warnings
	Warnings int64
}

// Clean reports whether nothing was wrong.
func (r *Report) Clean() bool { return r.Findings == 0 }

// checker is one run.
type checker struct {
	o        Options
	dir      string
	reporter reporter
	progress *Progress
	workers  chan struct{}

	manifest manifest.Manifest
	ours     bool // the repository says that Rootstock wrote it

	wants *wants

	// mu guards what follows.
	mu       sync.Mutex
	nodes    map[nodeKey]*node
	contents map[object.ContentID]bool // chunked contents that were read
	chunks   map[chunkKey]bool         // and the chunks they are made of
}

// Run checks a repository. The error says why it could not be done, never what
// was found.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Found == nil {
		o.Found = func(Finding) {}
	}
	if o.Progress == nil {
		o.Progress = &Progress{}
	}
	dir, err := os.MkdirTemp(o.TempDir, "rootstock-check-")
	if err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	defer os.RemoveAll(dir)
	c := &checker{
		o: o, dir: dir, reporter: reporter{found: o.Found, once: map[Finding]bool{}}, progress: o.Progress,
		workers: make(chan struct{}, o.Workers),
		nodes:   map[nodeKey]*node{}, contents: map[object.ContentID]bool{}, chunks: map[chunkKey]bool{},
	}
	if c.wants, err = newWants(dir); err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	defer c.wants.Close() //nolint:errcheck // temporary files without names
	if err := c.run(ctx); err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	p := o.Progress
	return &Report{
		Name: c.manifest.Name, Revision: c.manifest.Revision,
		Catalogs: p.Catalogs.Load(), Trees: p.Trees.Load(), Objects: p.Objects.Load(), Bytes: p.Bytes.Load(),
		Findings: c.reporter.findings, Warnings: c.reporter.warnings,
	}, nil
}

func (c *checker) run(ctx context.Context) error {
	roots, err := c.rootFiles(ctx)
	if err != nil {
		return err
	}
	starts := c.walk(ctx, roots)
	if err := ctx.Err(); err != nil {
		return err
	}
	seen := map[*node]bool{}
	for _, s := range starts {
		c.relations(s, seen)
	}
	checked := map[treeKey]bool{}
	for _, s := range starts {
		c.trees(ctx, s, checked)
		c.links(s)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.objects(ctx)
}

// each runs f for 0 to n-1 on as many goroutines as there are workers.
func (c *checker) each(ctx context.Context, n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		c.workers <- struct{}{}
		wg.Go(func() {
			defer func() { <-c.workers }()
			f(i)
		})
	}
	wg.Wait()
}
