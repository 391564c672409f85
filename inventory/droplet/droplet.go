// Package droplet finds the packages in what was put on top of a tree: a
// droplet's layer as it streams by, or the write layer of a container that was
// given one. The files that name packages are those that package packages
// knows; what is a droplet's own is staging_info.yml and the configuration that
// each buildpack leaves in deps.
//
// Both are tenants' work and hostile. Everything is bounded, and what lies
// beyond a bound becomes a gap of the inventory.
package droplet

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/inventory"
	"github.com/rootstock-cf/rootstock/inventory/packages"
)

// Bounds of one droplet.
const (
	maxEntries = 1 << 20
	maxWatched = 1 << 17 // files that may name packages
	maxName    = 4096    // bytes of a path
	maxBytes   = 16 << 30
	// maxFile bounds a file that is read: only programs have no smaller
	// bound of their own.
	maxFile = 1 << 30
	// maxGaps bounds what is said to have been left out.
	maxGaps = 1024
)

// modeRegular is the type of a regular file in an st_mode.
const modeRegular = 0o100000

// Digests of droplets, as they are named: that of a layer, or that of a listing
// of what a container was given.
const (
	LayerPrefix = "sha256:"
	FilesPrefix = "files:"
)

// Check reports, as [inventory.ErrInvalid], what is no digest of a droplet.
func Check(digest string) error {
	hex, ok := strings.CutPrefix(digest, LayerPrefix)
	if !ok {
		hex, ok = strings.CutPrefix(digest, FilesPrefix)
	}
	if !ok || len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		return fmt.Errorf("%w: %.100q is no droplet's digest", inventory.ErrInvalid, digest)
	}
	return nil
}

// gatherer collects what the files of one droplet say.
type gatherer struct {
	found *packages.Collector
	at    map[string]int // in entries, by path: the last one counts
	all   []imagemeta.Entry
	gaps  []inventory.Gap
	read  int64
}

func newGatherer() *gatherer { return &gatherer{found: packages.New(), at: map[string]int{}} }

func (g *gatherer) gap(name, why string) {
	if len(g.gaps) < maxGaps {
		g.gaps = append(g.gaps, inventory.Gap{Ecosystem: inventory.Generic, Path: name, Reason: why})
	}
}

// file takes the content of a file, as far as it names packages.
func (g *gatherer) file(name string, mode uint32, size int64, r io.Reader) error {
	delete(g.at, name)
	if !packages.Wanted(name, mode) {
		return nil
	}
	if len(g.at) >= maxWatched || size > maxFile || g.read+size > maxBytes {
		g.gap(name, "there is more to read than a droplet may have")
		return nil
	}
	e := imagemeta.Entry{Path: name, Mode: mode, Size: size}
	if f := g.found.Watch(name, mode, size); f != nil {
		h := newHash(f)
		n, err := io.Copy(h, r)
		g.read += n
		if err != nil {
			return err
		}
		e.Content, e.Size = h.id(), n
		f.Done(e.Content)
	}
	g.put(e)
	return nil
}

func (g *gatherer) put(e imagemeta.Entry) {
	g.at[e.Path] = len(g.all)
	g.all = append(g.all, e)
}

// link takes a hard link.
func (g *gatherer) link(name, to string) {
	delete(g.at, name)
	if i, ok := g.at[to]; ok && len(g.at) < maxWatched {
		e := g.all[i]
		e.Path = name
		g.put(e)
	}
}

// finish puts together what was found.
func (g *gatherer) finish(digest string) inventory.Inventory {
	last := make([]imagemeta.Entry, 0, len(g.at))
	for i := range g.all {
		if at, ok := g.at[g.all[i].Path]; ok && at == i {
			last = append(last, g.all[i])
		}
	}
	v := g.found.Inventory(imagemeta.TreeID{}, last)
	v.Tree = digest
	v.NotRead = append(v.NotRead, g.gaps...)
	v.Normalize()
	return v
}

// ReadTar reads a layer, a tar or a gzipped one, and returns what it has, under
// its digest. An error is one of r or of the archive.
func ReadTar(ctx context.Context, r io.Reader, digest string) (inventory.Inventory, error) {
	g := newGatherer()
	if err := g.tar(ctx, r); err != nil {
		return inventory.Inventory{}, fmt.Errorf("droplet %s: %w", digest, err)
	}
	return g.finish(digest), nil
}

func (g *gatherer) tar(ctx context.Context, r io.Reader) error {
	b := bufio.NewReaderSize(r, 64<<10)
	plain := io.Reader(b)
	if magic, err := b.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(b)
		if err != nil {
			return err
		}
		plain = z
	}
	limited := &io.LimitedReader{R: plain, N: maxBytes}
	t := tar.NewReader(limited)
	for range maxEntries {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && limited.N <= 0 {
			g.gap("", fmt.Sprintf("more than %d bytes", int64(maxBytes)))
			return nil
		}
		if err != nil {
			return err
		}
		if err := g.entry(h, t); err != nil {
			return err
		}
	}
	g.gap("", fmt.Sprintf("more than %d entries", maxEntries))
	return nil
}

func (g *gatherer) entry(h *tar.Header, r io.Reader) error {
	name := clean(h.Name)
	switch {
	case name == "":
		return nil
	case len(name) > maxName:
		g.gap(name[:100], "its path is too long")
		return nil
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return g.file(name, uint32(h.Mode)&0o7777|modeRegular, h.Size, r) // #nosec G115 -- masked
	case tar.TypeLink:
		g.link(name, clean(h.Linkname))
	default:
		delete(g.at, name)
	}
	return nil
}

// clean is a path of a tar relative to its root.
func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }
