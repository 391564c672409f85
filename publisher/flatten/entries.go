package flatten

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/imagemeta"
)

// entries lists the tree in canonical order and checks what only the final
// tree can be judged by.
func (n *node) entries(t *Totals) ([]imagemeta.Entry, error) {
	n.visit(func(c *node) { c.ino.links++; t.Entries++ })
	l := lister{list: make([]imagemeta.Entry, 0, t.Entries), totals: t}
	if err := l.add("", n); err != nil {
		return nil, err
	}
	return l.list, nil
}

type lister struct {
	list   []imagemeta.Entry
	totals *Totals
	groups uint32
}

func (l *lister) add(p string, n *node) error {
	i := n.ino
	if err := publishable(n); err != nil {
		return fmt.Errorf("%q: %w", p, err)
	}
	if i.isRegular() && i.content.IsZero() {
		return fmt.Errorf("%q: %w", p, errNameless)
	}
	if len(p) >= maxPath {
		return fmt.Errorf("%w: a path of %d bytes, more than %d: %q…", ErrHostile, len(p), maxPath-1, p[:64])
	}
	if i.links > 1 && i.group == 0 {
		l.groups++
		i.group = l.groups
		l.count(i)
	} else if i.links == 1 {
		l.count(i)
	}
	l.list = append(l.list, imagemeta.Entry{
		Path: p, Mode: i.mode, UID: i.uid, GID: i.gid, MTime: i.mtime, Nsec: i.nsec,
		Size: i.size, Content: i.content, Target: i.target, Major: i.major, Minor: i.minor,
		XAttrs: i.xattrs, Link: i.group,
	})
	below := make([]*node, 0, len(n.children))
	for _, c := range n.children {
		below = append(below, c)
	}
	slices.SortFunc(below, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	for _, c := range below {
		if err := l.add(join(p, c.name), c); err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) count(i *inode) {
	if i.isRegular() {
		l.totals.Files++
		l.totals.Bytes += i.size
	}
}

// publishable refuses what would mean something else in a published tree: the
// files by which CernVM-FS marks nested catalogs (CVMFS-FORMAT 5.1), and what
// an overlay mount takes for its own.
func publishable(n *node) error {
	switch n.name {
	case ".cvmfscatalog", ".cvmfsautocatalog":
		return fmt.Errorf("%w: CernVM-FS marks its own catalogs with a file of that name; take it out of the image", ErrUnsupported)
	}
	i := n.ino
	if i.kind() == catalog.ModeChar && i.major == 0 && i.minor == 0 {
		return fmt.Errorf("%w: a character device 0:0 hides the name in an overlay mount; take it out of the image", ErrUnsupported)
	}
	for _, x := range i.xattrs {
		if strings.HasPrefix(x.Name, "trusted.overlay.") || strings.HasPrefix(x.Name, "user.overlay.") {
			return fmt.Errorf("%w: extended attribute %s would steer the overlay mount; take it out of the image", ErrUnsupported, x.Name)
		}
	}
	return nil
}
