package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
)

// ErrNodes reports a record of nodes that says too little to go on from.
var ErrNodes = errors.New("what the kernel was shown is not known")

// nodes is the record of what nodes mean: a line of JSON for each slot, written
// before a node of it is handed out, and for each root, before and after the
// kernel is told of it. It is only ever appended to. A line that the disk did
// not take is one whose nodes the next process does not know (ESTALE).
//
// It is not synced: it matters only as long as the kernel remembers nodes.
type nodes struct {
	mu    sync.Mutex
	file  *os.File
	roots []uint32 // slots the kernel may remember as root, the last one shown
}

type nodeLine struct {
	Slot   uint32      `json:"slot,omitempty"`
	Hash   object.Hash `json:"hash,omitzero"`
	Size   int64       `json:"size,omitempty"`
	Mount  string      `json:"mount,omitempty"`
	Prefix string      `json:"prefix,omitempty"`
	Any    bool        `json:"any,omitempty"`

	Showing uint32 `json:"showing,omitempty"` // slot of a root
	Shown   uint32 `json:"shown,omitempty"`
}

// maxNodes bounds the record that is read back, in bytes.
const maxNodes = 1 << 30

func (r *Repository) openNodes() error {
	if r.o.Nodes == "" {
		return nil
	}
	flags := os.O_RDWR | os.O_APPEND
	if !r.o.Resume {
		flags |= os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(r.o.Nodes, flags, 0o600)
	if err != nil {
		return fmt.Errorf("repository %s: record of nodes: %w", r.o.Name, err)
	}
	r.nodes = &nodes{file: f}
	if r.o.Resume {
		if err := r.loadNodes(); err != nil {
			r.nodes.close()
			return fmt.Errorf("repository %s: record of nodes: %w", r.o.Name, err)
		}
	}
	r.slots.keep = func(x *slot) {
		r.nodes.append(nodeLine{Slot: x.id, Hash: x.cat.hash, Size: x.cat.size.Load(), Mount: x.mount, Prefix: x.prefix, Any: x.any})
	}
	return nil
}

// append writes a line. What the disk does not take is left out; a line begins
// with a newline so that none is lost to one that was cut short.
func (n *nodes) append(line nodeLine) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(err) // numbers and strings
	}
	n.file.Write(append([]byte{'\n'}, text...)) //nolint:errcheck // see above
}

func (n *nodes) close() {
	if n != nil {
		n.file.Close() //nolint:errcheck // appended to line by line
	}
}

func (r *Repository) loadNodes() error {
	text, err := io.ReadAll(io.LimitReader(r.nodes.file, maxNodes))
	if err != nil {
		return err
	}
	for raw := range bytes.Lines(text) {
		var line nodeLine
		if json.Unmarshal(raw, &line) != nil {
			continue // cut short
		}
		switch {
		case line.Slot != 0 && line.Slot < maxSlots:
			cat := r.catalogs.of(line.Hash, line.Size)
			r.slots.put(&slot{id: line.Slot, cat: cat, mount: line.Mount, prefix: line.Prefix, any: line.Any})
		case line.Showing != 0:
			r.nodes.roots = append(r.nodes.roots, line.Showing)
		case line.Shown != 0:
			r.nodes.roots = []uint32{line.Shown}
		}
	}
	for _, id := range r.nodes.roots {
		if r.slots.at(id) == nil {
			return ErrNodes
		}
	}
	if len(r.nodes.roots) == 0 {
		return ErrNodes
	}
	return nil
}

// Roots returns the nodes that the kernel may remember as the root directory, of
// a repository that is resumed: more than one if it was being told of a new one.
// It shows the last one.
func (r *Repository) Roots() (list []view.Node) {
	if r.nodes == nil || !r.o.Resume {
		return nil
	}
	r.nodes.mu.Lock()
	defer r.nodes.mu.Unlock()
	for _, id := range r.nodes.roots {
		list = append(list, r.slots.at(id).node(0))
	}
	return list
}

// Showing records that the kernel is about to be shown another root directory,
// and Shown that it has been told all that became different by that.
func (r *Repository) Showing(root view.Node) { r.root(root, false) }

// Shown is described at Showing.
func (r *Repository) Shown(root view.Node) { r.root(root, true) }

func (r *Repository) root(root view.Node, done bool) {
	if r.nodes == nil {
		return
	}
	id := uint32(root >> rowBits) // #nosec G115 -- a slot's number
	r.nodes.mu.Lock()
	defer r.nodes.mu.Unlock()
	if done {
		r.nodes.roots = []uint32{id}
		r.nodes.append(nodeLine{Shown: id})
		return
	}
	r.nodes.roots = append(r.nodes.roots, id)
	r.nodes.append(nodeLine{Showing: id})
}

// resume makes a head of what was verified and shown last.
func (r *Repository) resume(ctx context.Context) error {
	root := r.slots.at(r.nodes.roots[len(r.nodes.roots)-1])
	if !r.o.RootHash.IsZero() {
		return r.resumeAt(ctx, root, head{})
	}
	d, ok := r.state.load()
	if !ok {
		return fmt.Errorf("repository %s: %w: its state is not complete", r.o.Name, ErrNodes)
	}
	// Verified when it was saved, and held against the present by Trusted.
	cert := func(context.Context, object.Hash) ([]byte, error) { return d.certificate, nil }
	v, err := r.verify(ctx, &d, cert)
	var withdrawn error
	if errors.Is(err, manifest.ErrBlacklisted) {
		withdrawn = err
	}
	if errors.Is(err, manifest.ErrBlacklisted) || errors.Is(err, manifest.ErrExpired) {
		trust := r.o.Trust
		trust.Blacklist = manifest.Blacklist{}
		v, err = trust.Verify(ctx, r.o.Name, d.published, d.whitelist, cert, r.state.savedAt(r.o.Clock()))
		if err != nil {
			err = fmt.Errorf("repository %w", err)
		}
	}
	if err != nil {
		return err
	}
	d.certificateHash = v.Manifest.Certificate
	r.saved = d
	return r.resumeAt(ctx, root, head{manifest: v.Manifest, end: v.WhitelistEnd, withdrawn: withdrawn})
}

func (r *Repository) resumeAt(ctx context.Context, root *slot, h head) error {
	a, err := r.use(ctx, root)
	if err != nil {
		return fmt.Errorf("repository %s: root %w", r.o.Name, err)
	}
	defer a.release()
	h.root, h.revision = root, a.index.Revision()
	if err := r.allowed(h.revision); errors.Is(err, manifest.ErrBlacklisted) {
		h.withdrawn = err
	}
	r.head.Store(&h)
	return nil
}

// savedAt is a time at which what is saved was valid: when it was written.
func (s state) savedAt(now time.Time) time.Time {
	info, err := os.Stat(s.dir + "/whitelist")
	if err != nil {
		return now
	}
	return info.ModTime()
}
