package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
)

const (
	// magicPage is how much of a value one page holds, in bytes: a longer one
	// must be asked for page by page, as name~N.
	magicPage = 40_000
	// maxLocalHash bounds the files that user.lhash compresses anew, in
	// bytes: anybody on the machine may ask.
	maxLocalHash = 64 << 20
	maxMetainfo  = 64 << 10 // bytes (CVMFS-FORMAT 3.4)
)

// waitingAttribute computes a value that may take the network, a disk or a
// while. Its error is [view.ErrNoXAttr] where it has none.
type waitingAttribute func(ctx context.Context, r *Repository, p place, st *catalog.Stat) (string, error)

var waitingAttributes = map[string]waitingAttribute{
	"user.repo_counters":    repoCounters,
	"user.catalog_counters": catalogCounters,
	"user.repo_metainfo":    repoMetainfo,
	"user.lhash":            localHash,
}

// magicNames lists the computed attributes that the root has.
func (r *Repository) magicNames(p place) []string {
	names := []string{"user.repo_counters", "user.catalog_counters", "user.repo_metainfo"}
	st := p.stat()
	for name, compute := range magicAttributes {
		if _, ok := compute(r, p, &st); ok {
			names = append(names, name)
		}
	}
	return names
}

// magic computes an attribute, or one page of it: name~N is page N, name~? how
// many there are, and with @ instead of ~ the answer is for people.
func (r *Repository) magic(ctx context.Context, p place, name string) ([]byte, error) {
	page, mode := "0", byte(0)
	if i := strings.IndexAny(name, "~@"); i >= 0 {
		name, mode, page = name[:i], name[i], name[i+1:]
	}
	st := p.stat()
	var value string
	if compute := magicAttributes[name]; compute != nil {
		var ok bool
		if value, ok = compute(r, p, &st); !ok {
			return nil, view.ErrNoXAttr
		}
	} else if compute := waitingAttributes[name]; compute != nil {
		var err error
		if value, err = compute(ctx, r, p, &st); err != nil {
			return nil, err
		}
	} else {
		return nil, view.ErrNoXAttr
	}
	pages := max(1, (len(value)+magicPage-1)/magicPage)
	switch {
	case page == "?" && mode == '~':
		return fmt.Appendf(nil, "num_pages, %d", pages), nil
	case page == "?":
		return fmt.Appendf(nil, "%s has %d pages, from 0: ask for %s~0, or %s@0 for this kind of text", name, pages, name, name), nil
	}
	n, err := strconv.Atoi(page)
	if err != nil || n < 0 || n >= pages {
		return nil, view.ErrNoXAttr
	}
	var out []byte
	if mode == '@' {
		out = fmt.Appendf(nil, "# page %d of %s, which has %d, from 0\n", n, name, pages)
	}
	return append(out, value[n*magicPage:min(len(value), (n+1)*magicPage)]...), nil
}

func repoCounters(ctx context.Context, r *Repository, _ place, _ *catalog.Stat) (string, error) {
	root, err := r.at(ctx, r.Root())
	if err != nil {
		return "", err
	}
	defer root.release()
	return counters(root.index), nil
}

// catalogCounters is about the catalog that holds the entry; of a mountpoint,
// the one mounted there.
func catalogCounters(ctx context.Context, r *Repository, p place, st *catalog.Stat) (string, error) {
	if st.Flags&mountpoint != 0 {
		inner, err := r.within(ctx, p.slot.node(p.row))
		if err != nil {
			return "", err
		}
		defer inner.release()
		p = inner
	}
	mount := p.slot.mount
	if mount == "" {
		mount = "/"
	}
	return "catalog_hash: " + p.slot.cat.hash.String() + "\ncatalog_mountpoint: " + mount + "\n" + counters(p.index), nil
}

// metainfo is the last one that was asked for. It is fetched when somebody
// does, since nothing here depends on it.
type metainfo struct {
	hash object.Hash
	text string
}

func repoMetainfo(ctx context.Context, r *Repository, _ place, _ *catalog.Stat) (string, error) {
	h := r.head.Load().manifest.Metainfo
	if h.IsZero() {
		return "", view.ErrNoXAttr
	}
	if m := r.metainfo.Load(); m != nil && m.hash == h {
		return m.text, nil
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	var buf memorySink
	if err := r.fetchMeta(ctx, object.Metainfo, unsized(h, maxMetainfo), &buf); err != nil {
		return "", fmt.Errorf("metainfo: %w", err)
	}
	m := &metainfo{hash: h, text: buf.String()}
	r.metainfo.Store(m)
	return m.text, nil
}

// localHash compresses the cached copy anew and hashes the result: what the
// object's name would have to be.
func localHash(ctx context.Context, r *Repository, p place, st *catalog.Stat) (string, error) {
	h := p.index.Hash(p.row)
	switch {
	case st.Mode&catalog.ModeType != catalog.ModeRegular || h.IsZero():
		return "", view.ErrNoXAttr
	case st.Size > maxLocalHash:
		return fmt.Sprintf("not computed for files of more than %d bytes", maxLocalHash), nil
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	}
	var plain []byte
	if st.Size > 0 { // an empty content is never in the cache
		f, ok := r.o.Cache.Lookup(ctx, cache.Object(h, st.Compression))
		if !ok {
			return "Not in cache", nil
		}
		defer f.Close() //nolint:errcheck // read only
		plain = make([]byte, st.Size)
		if n, err := f.ReadAt(plain, 0); int64(n) < st.Size && err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("cached copy: %w", err)
		}
	}
	stored, err := codec.Encode(st.Compression, nil, plain)
	if err != nil {
		return "", fmt.Errorf("cached copy: %w", err)
	}
	return h.Algorithm.Sum(stored).String(), nil
}

// counters prints a catalog's statistics, with all below it, in stock's order.
func counters(x *catalog.Index) string {
	self, subtree := x.Counters()
	c := self.Add(subtree)
	var b strings.Builder
	for _, line := range []struct {
		name  string
		value int64
	}{
		{"chunked", c.Chunked},
		{"chunked_size", c.ChunkedSize},
		{"chunks", c.Chunks},
		{"dir", c.Dir},
		{"external", c.External},
		{"external_file_size", c.ExternalFileSize},
		{"file_size", c.FileSize},
		{"nested", c.Nested},
		{"regular", c.Regular},
		{"special", c.Special},
		{"symlink", c.Symlink},
		{"xattr", c.XAttr},
	} {
		fmt.Fprintf(&b, "%s,%d\n", line.name, line.value)
	}
	return b.String()
}
