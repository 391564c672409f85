// Package packages finds the packages in a tree while it streams by: the
// databases of dpkg and apk, a buildpack's manifest, cflinuxfs's receipt, and
// what npm, Python, Ruby, Java and Go leave beside or inside of what they
// install. Nothing of a tree is run, extracted or read twice.
//
// A [Collector] is told the name of each file as a layer has it and hands out
// a [File] for the bytes of those a reader wants. What the bytes say is kept by
// content, not by name: layers hide, link and move names, and only the finished
// tree says which contents it has, where. [Collector.Inventory] joins the two.
//
// Everything read is hostile. Each reader bounds what it takes; what is beyond
// a bound, or not understood, becomes a gap in the inventory, so that "no such
// package" is never said of something unread.
package packages

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/inventory"
	"github.com/rootstock-cf/rootstock/object"
)

// maxPackages bounds the packages of a tree: an image of a million
// package.json files is a denial of service, not software.
const maxPackages = 1 << 18

// found is what one content says.
type found struct {
	packages []inventory.Package // Path says where below the file: see place
	distro   inventory.Distro
	gap      string // why it was not, or not all, read
}

// key is a content as one reader understands it.
type key struct {
	id     object.ContentID
	reader readerID
}

// Collector gathers what the files of one tree say. Files may be written and
// done beside each other; all have to be done before Missing and Inventory.
type Collector struct {
	mu    sync.Mutex
	found map[key]found
	count int
	spare []byte // of a file that is done, for the next one
}

// New returns an empty Collector.
func New() *Collector { return &Collector{found: map[key]found{}} }

// Watch returns where the bytes of a regular file go that is called path
// (relative, as in imagemeta.Entry) and has size bytes, or nil if none of them
// is wanted. mode is its st_mode.
func (c *Collector) Watch(path string, mode uint32, size int64) *File {
	id := classify(path, mode)
	if id == none || id == unreadable || size > readers[id].limit {
		return nil
	}
	f := &File{c: c, reader: id}
	if readers[id].stream {
		f.scan = &goScan{}
	} else {
		c.mu.Lock()
		f.buf, c.spare = c.spare[:0], nil
		c.mu.Unlock()
	}
	return f
}

// File takes the bytes of one file, in order.
type File struct {
	c      *Collector
	reader readerID
	buf    []byte
	scan   *goScan
	over   bool
}

// Write implements io.Writer. It never fails: a file that turns out too large
// is let go and becomes a gap.
func (f *File) Write(p []byte) (int, error) {
	switch {
	case f.scan != nil:
		f.scan.write(p)
	case f.over:
	case int64(len(f.buf)+len(p)) > readers[f.reader].limit:
		f.over, f.buf = true, nil
	default:
		f.buf = append(f.buf, p...)
	}
	return len(p), nil
}

// Done ends the file, whose content is id, and reads what was written.
func (f *File) Done(id object.ContentID) {
	k := key{id, f.reader}
	c := f.c
	c.mu.Lock()
	_, met := c.found[k]
	c.mu.Unlock()
	var r found
	if !met {
		r = f.read()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.found[k]; !ok && !met {
		c.keep(k, r)
	}
	if cap(f.buf) <= 1<<20 {
		c.spare = f.buf
	}
}

func (f *File) read() found {
	if f.over {
		return found{gap: "larger than it said"}
	}
	if f.scan != nil {
		return f.scan.end()
	}
	return readers[f.reader].parse(f.buf)
}

func (c *Collector) keep(k key, r found) {
	if c.count += len(r.packages); c.count > maxPackages {
		r = found{gap: fmt.Sprintf("the tree names more than %d packages", maxPackages)}
	}
	c.found[k] = r
}

// Missing returns the entries whose contents a reader wants and has not had:
// those that were known under another name only. Whoever has the contents
// feeds them through Watch, under the entry's path, before Inventory.
func (c *Collector) Missing(entries []imagemeta.Entry) []imagemeta.Entry {
	var all []imagemeta.Entry
	asked := map[key]bool{}
	for i := range entries {
		e := &entries[i]
		k, ok := want(e)
		if !ok || asked[k] {
			continue
		}
		if _, ok := c.found[k]; !ok {
			asked[k] = true
			all = append(all, *e)
		}
	}
	return all
}

// want is what is to be known of e, if anything can be.
func want(e *imagemeta.Entry) (key, bool) {
	if !e.IsRegular() {
		return key{}, false
	}
	id := classify(e.Path, e.Mode)
	return key{e.Content, id}, id != none && id != unreadable && e.Size <= readers[id].limit
}

// Inventory returns what the tree of these entries says it has, in canonical
// order. Contents still missing are gaps.
func (c *Collector) Inventory(tree imagemeta.TreeID, entries []imagemeta.Entry) inventory.Inventory {
	b := builder{v: inventory.Inventory{Format: inventory.Format, Tree: tree.String()}, cached: map[string]bool{}}
	for i := range entries {
		e := &entries[i]
		if !e.IsRegular() {
			continue
		}
		id := classify(e.Path, e.Mode)
		if id == none {
			continue
		}
		r, ok := c.found[key{e.Content, id}]
		switch {
		case id == unreadable:
			r.gap = "this format is not read"
		case e.Size > readers[id].limit:
			r.gap = fmt.Sprintf("%d bytes, more than the %d that are read", e.Size, readers[id].limit)
		case !ok:
			r.gap = "its content was not at hand"
		}
		b.add(e.Path, id, r)
	}
	return b.finish(entries)
}

// builder puts together what the contents of a tree say.
type builder struct {
	v       inventory.Inventory
	debs    bool // a dpkg database was read
	receipt []inventory.Package
	cached  map[string]bool // names of a buildpack's archives; true if the tree has it
	count   int
}

func (b *builder) add(path string, id readerID, r found) {
	if r.gap != "" {
		b.v.NotRead = append(b.v.NotRead, inventory.Gap{Ecosystem: readerEcosystem(id), Path: path, Reason: r.gap})
	}
	if id == osRelease && (b.v.Distro == inventory.Distro{} || path == "etc/os-release") && (r.distro != inventory.Distro{}) {
		b.v.Distro = r.distro
	}
	// One content may lie at a million paths.
	if b.count += len(r.packages); b.count > maxPackages {
		if b.count-len(r.packages) <= maxPackages {
			b.v.NotRead = append(b.v.NotRead, inventory.Gap{
				Ecosystem: readerEcosystem(id), Path: path, Reason: fmt.Sprintf("the tree names more than %d packages", maxPackages),
			})
		}
		return
	}
	for _, p := range r.packages {
		switch {
		case p.Path == "":
			p.Path = path
		case strings.HasPrefix(p.Path, "!/"):
			p.Path = path + p.Path
		default:
			b.cached[p.Path] = false
		}
		if id == receipt {
			b.receipt = append(b.receipt, p)
			continue
		}
		b.debs = b.debs || p.Ecosystem == inventory.Deb
		b.v.Packages = append(b.v.Packages, p)
	}
}

func (b *builder) finish(entries []imagemeta.Entry) inventory.Inventory {
	if !b.debs {
		b.v.Packages = append(b.v.Packages, b.receipt...) // otherwise the database says the same, and more
	}
	if len(b.cached) > 0 {
		for i := range entries {
			if _, ok := b.cached[entries[i].Path]; ok {
				b.cached[entries[i].Path] = true
			}
		}
	}
	for i := range b.v.Packages {
		p := &b.v.Packages[i]
		if there, ok := b.cached[p.Path]; ok && !there {
			p.Path = manifestPath
		}
		p.PURL = inventory.PackageURL(p, b.v.Distro)
	}
	b.v.Normalize()
	return b.v
}

// lines yields the lines of b without their ends.
func lines(b []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for line := range bytes.Lines(b) {
			if !yield(bytes.TrimRight(line, "\r\n")) {
				return
			}
		}
	}
}

// distinct drops packages that a content names twice.
func distinct(all []inventory.Package) []inventory.Package {
	v := inventory.Inventory{Packages: all}
	v.Normalize()
	return slices.Clip(v.Packages)
}
