package flatten

import (
	"context"
	"fmt"

	"github.com/rootstock-cf/rootstock/object"
)

// Memory keeps what layers said from one run to the next, so that a layer that
// was read once need not be fetched, decompressed or parsed again. It is a
// cache: it may forget anything at any time.
type Memory interface {
	// Recall returns what Remember was given for a layer, named by its diff id
	// and how it was read, or nil.
	Recall(layer string) []byte
	// Remember keeps what a layer said. It must not keep said.
	Remember(layer string, said []byte)
}

// Adopter is an Ingester that may have contents already.
type Adopter interface {
	// AdoptAll makes contents part of the run without their bytes and reports,
	// in the order of ids, of which that was possible.
	AdoptAll(ctx context.Context, ids []object.ContentID) ([]bool, error)
}

// maxInline bounds the contents hidden by higher layers that are remembered as
// they are, in bytes: of all layers of a run, since they are held in memory.
// Such a content is in no object of the store, and without it a layer that
// another image shows unhidden would have to be fetched again for it.
const maxInline = 16 << 20

// memoryKey is what a layer is remembered by, empty if it is not. The same
// archive says other things where names of whiteouts are plain names.
func (f *flattener) memoryKey(l any) string {
	d, ok := l.(interface{ DiffID() string })
	switch {
	case !ok || d.DiffID() == "":
		return ""
	case f.options.Plain:
		return "plain " + d.DiffID()
	}
	return d.DiffID()
}

// recall fills s with what is remembered of layer l, as reading it would have.
func (f *flattener) recall(l Layer, s *scan, above *veil) (bool, error) {
	id := f.memoryKey(l)
	if f.options.Memory == nil || id == "" {
		return false, nil
	}
	if _, ok := f.in.(Adopter); !ok {
		return false, nil
	}
	said := f.options.Memory.Recall(id)
	if said == nil || !s.decode(said) {
		return false, nil
	}
	if f.tree.Totals.Read += s.read; f.tree.Totals.Read > f.options.MaxEntries {
		return false, s.wrap(fmt.Errorf("%w: more than %d entries in all layers", ErrLimit, f.options.MaxEntries))
	}
	for i := range s.records {
		r := &s.records[i]
		if r.kind != entry || !r.ino.isRegular() {
			continue
		}
		if f.bytes += r.ino.size; f.bytes > f.options.MaxBytes || f.bytes < 0 {
			return false, s.wrap(fmt.Errorf("%w: files of more than %d bytes in all layers", ErrLimit, f.options.MaxBytes))
		}
		r.ino.layer = s.number
		if above.hides(r.path) {
			f.tree.Totals.Skipped += r.ino.size
		}
	}
	s.recalled = true
	return true, nil
}

// remember keeps what the layers said that were read in this run.
func (f *flattener) remember(layer func(int) Layer, scans []*scan) {
	if f.options.Memory == nil {
		return
	}
	for i, s := range scans {
		if id := f.memoryKey(layer(i)); id != "" && !s.recalled {
			f.options.Memory.Remember(id, s.encode())
		}
	}
}

// adopt finds the contents of recalled layers that the final tree names.
func (f *flattener) adopt(ctx context.Context, root *node) error {
	a, ok := f.in.(Adopter)
	if !ok || f.options.Memory == nil {
		return nil
	}
	var ids []object.ContentID
	wanted := map[object.ContentID][]*inode{}
	var inline []*node
	root.visit(func(n *node) {
		i := n.ino
		switch {
		case !i.isRegular() || !i.content.IsZero():
		case !i.known.IsZero():
			if wanted[i.known] == nil {
				ids = append(ids, i.known)
			}
			wanted[i.known] = append(wanted[i.known], i)
		case i.inline != nil:
			inline = append(inline, n)
		}
	})
	there, err := a.AdoptAll(ctx, ids)
	if err != nil {
		return err
	}
	for at, id := range ids {
		for _, i := range wanted[id] {
			if there[at] && i.content.IsZero() {
				i.content = id
				f.tree.Totals.Recalled += i.size
			}
		}
	}
	for _, n := range inline {
		if n.ino.inline == nil || !n.ino.content.IsZero() {
			continue // another of its names was first, or the same was adopted
		}
		if err := f.ingestInline(ctx, n); err != nil {
			return fmt.Errorf("%q: %w", n.path(), err)
		}
	}
	return f.in.Settle()
}
