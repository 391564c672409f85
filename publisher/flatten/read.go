package flatten

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/rootstock-cf/rootstock/object"
)

// read records the entries of layer l into s and ingests the contents that
// nothing above hides.
func (f *flattener) read(ctx context.Context, l Layer, s *scan, above *veil) error {
	return s.walk(ctx, l, func(n int, h *tar.Header, content io.Reader) error {
		if f.tree.Totals.Read++; f.tree.Totals.Read > f.options.MaxEntries {
			return fmt.Errorf("%w: more than %d entries in all layers", ErrLimit, f.options.MaxEntries)
		}
		s.read++
		r, skip, err := parse(h, f.options.Plain)
		if err != nil {
			return err
		}
		if skip != "" {
			if skip != unsaid {
				s.note(h.Name, "left out: "+skip)
			}
			return nil
		}
		for _, key := range []string{"SCHILY.acl.access", "SCHILY.acl.default"} {
			if h.PAXRecords[key] != "" {
				// Names of users mean nothing outside the image.
				s.note(h.Name, "left out: an ACL in text form ("+key+"); make the tar with --xattrs to keep it")
			}
		}
		r.number = int32(n) //nolint:gosec // below MaxEntries, which fits
		if r.kind == entry && r.ino.isRegular() {
			if f.bytes += r.ino.size; f.bytes > f.options.MaxBytes || f.bytes < 0 {
				return fmt.Errorf("%w: files of more than %d bytes in all layers", ErrLimit, f.options.MaxBytes)
			}
			r.ino.layer, r.ino.number = s.number, r.number
			if above.hides(r.path) {
				f.tree.Totals.Skipped += r.ino.size
				if err := f.keepInline(r.ino, content); err != nil {
					return err
				}
			} else if err := f.ingest(ctx, r.path, r.ino, content); err != nil {
				return err
			}
		}
		s.records = append(s.records, r)
		return nil
	})
}

// keepInline keeps a hidden content for the Memory, while there is room.
func (f *flattener) keepInline(i *inode, content io.Reader) error {
	if f.options.Memory == nil || f.inline+i.size > maxInline {
		return nil
	}
	f.inline += i.size
	i.inline = make([]byte, i.size)
	if _, err := io.ReadFull(content, i.inline); err != nil {
		return err
	}
	return nil
}

// ingestInline ingests what keepInline kept, in this run or in an earlier one.
func (f *flattener) ingestInline(ctx context.Context, n *node) error {
	f.tree.Totals.Skipped -= n.ino.size
	content := bytes.NewReader(n.ino.inline)
	n.ino.inline = nil // its name will do from now on
	return f.ingest(ctx, n.path(), n.ino, content)
}

var (
	errShort    = errors.New("ingester did not read the whole content")
	errNameless = errors.New("ingester did not name the content")
)

func (f *flattener) ingest(ctx context.Context, path string, i *inode, content io.Reader) error {
	var w Watcher
	if f.options.Watch != nil {
		if w = f.options.Watch(path, i.mode, i.size); w != nil {
			content = io.TeeReader(content, w)
		}
	}
	e := &exact{in: content}
	err := f.in.Take(ctx, i.size, e, func(id object.ContentID) {
		i.content = id // nobody reads it before Settle
		if w != nil {
			w.Done(id)
		}
	})
	switch {
	case err != nil:
		return err
	case e.n != i.size:
		return fmt.Errorf("%w: %d of %d bytes", errShort, e.n, i.size)
	}
	f.tree.Totals.Ingested += i.size
	return nil
}

// complete ingests the contents that were skipped although the final tree
// names them, reading their layers again.
func (f *flattener) complete(ctx context.Context, root *node, layer func(int) Layer, scans []*scan) error {
	missing := make([]map[int32]*inode, len(scans))
	root.visit(func(n *node) {
		if i := n.ino; i.isRegular() && i.content.IsZero() {
			if missing[i.layer] == nil {
				missing[i.layer] = map[int32]*inode{}
			}
			missing[i.layer][i.number] = i
		}
	})
	for at, wanted := range missing {
		if len(wanted) == 0 {
			continue
		}
		err := scans[at].walk(ctx, layer(at), func(n int, h *tar.Header, content io.Reader) error {
			i := wanted[int32(n)] //nolint:gosec // the first reading was bounded
			if i == nil {
				return nil
			}
			if h.Size != i.size {
				return fmt.Errorf("%w: the layer changed between two readings", ErrConflict)
			}
			delete(wanted, int32(n)) //nolint:gosec // as above
			f.tree.Totals.Skipped -= i.size
			name, err := clean(h.Name)
			if err != nil {
				return err
			}
			return f.ingest(ctx, name, i, content)
		})
		if err != nil {
			return err
		}
		scans[at].recalled = false // what was missing is known now
		if len(wanted) > 0 {
			return scans[at].wrap(fmt.Errorf("%w: the layer changed between two readings", ErrConflict))
		}
	}
	return f.in.Settle()
}
