package check

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rootstock-cf/rootstock/object"
)

// Kind says which part of the repository is wrong.
type Kind string

// The kinds of findings.
const (
	Manifest    Kind = "manifest"
	Signature   Kind = "signature"
	Whitelist   Kind = "whitelist"
	Certificate Kind = "certificate"
	Metainfo    Kind = "metainfo"
	History     Kind = "history"
	Reflog      Kind = "reflog"
	Catalog     Kind = "catalog"  // unreadable, or not the one it should be
	Entry       Kind = "entry"    // a row that contradicts itself
	Dangling    Kind = "dangling" // a row that nothing leads to
	Nested      Kind = "nested"   // a transition point
	Bind        Kind = "bind"
	Marker      Kind = "marker" // .cvmfscatalog
	Links       Kind = "links"  // link counts and hard link groups
	Chunks      Kind = "chunks"
	Counters    Kind = "counters"
	Missing     Kind = "missing" // an object
	Content     Kind = "content" // an object that is not what it should be
	Listing     Kind = "listing" // of a tree
	Table       Kind = "objects" // a tree's table of objects
	Tree        Kind = "tree"    // catalog and listing disagree
	Image       Kind = "image"   // an image's description
	Link        Kind = "link"    // an image's or channel's name
)

// Finding is something wrong.
type Finding struct {
	Kind   Kind   `json:"kind"`
	Path   string `json:"path,omitempty"`   // in the repository, where it has one
	Object string `json:"object,omitempty"` // name of the object or root file
	Reason string `json:"reason"`
	// Warning marks what no client minds.
	Warning bool `json:"warning,omitempty"`
}

// String is the line a person reads.
func (f Finding) String() string {
	s := string(f.Kind) + ": "
	if f.Path != "" {
		s += fmt.Sprintf("%q: ", f.Path)
	}
	if f.Object != "" {
		s += f.Object + ": "
	}
	s += f.Reason
	if f.Warning {
		return "warning: " + s
	}
	return s
}

// Progress counts what has been done so far. It may be read at any time.
type Progress struct {
	Catalogs, Trees, Objects, Bytes atomic.Int64
	// Asked is how often catalogs and trees ask for an object, 0 until all of
	// them have been read; Answered how many of these have been dealt with.
	Asked, Answered atomic.Int64
}

// maxFindings is how many findings are handed out. A catalog full of nonsense
// would otherwise have one for each of its rows.
const maxFindings = 100_000

// reporter hands findings out one at a time.
type reporter struct {
	mu                 sync.Mutex
	found              func(Finding)
	findings, warnings int64
	// once holds findings that several revisions would repeat.
	once map[Finding]bool
}

func (r *reporter) report(f Finding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.Kind == Image || f.Kind == Link {
		if r.once[f] {
			return
		}
		r.once[f] = true
	}
	if f.Warning {
		r.warnings++
	} else {
		r.findings++
	}
	switch n := r.findings + r.warnings; {
	case n <= maxFindings:
		r.found(f)
	case n == maxFindings+1:
		r.found(Finding{Kind: f.Kind, Reason: "more findings than are shown from here on"})
	}
}

// at is where something was found.
type at struct{ path, object string }

func (c *checker) find(k Kind, w at, format string, args ...any) {
	c.reporter.report(Finding{Kind: k, Path: w.path, Object: w.object, Reason: fmt.Sprintf(format, args...)})
}

func (c *checker) warn(k Kind, w at, format string, args ...any) {
	c.reporter.report(Finding{Kind: k, Path: w.path, Object: w.object, Reason: fmt.Sprintf(format, args...), Warning: true})
}

// unreadable reports an object or root file that could not be read: as missing
// or, if it is there, as k.
func (c *checker) unreadable(k Kind, w at, err error) {
	if errors.Is(err, fs.ErrNotExist) {
		c.find(Missing, w, "is not there")
		return
	}
	// The object is named already.
	text := err.Error()
	if _, after, ok := strings.Cut(text, w.object+": "); ok && strings.HasPrefix(text, "read ") {
		text = after
	}
	c.find(k, w, "%s", text)
}

// show is the path of a catalog's root for people.
func show(path string) string {
	if path == "" {
		return "/"
	}
	return path
}

func name(h object.Hash, t object.Type) string { return object.Path(h, t) }
