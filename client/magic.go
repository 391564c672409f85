package client

import (
	"context"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/fusefs/view"
)

// magicPage is how much of a value one page holds, in bytes: a longer one must
// be asked for page by page, as name~N.
const magicPage = 40_000

// networker is a fetcher that can tell what it is connected to.
type networker interface{ Network() fetch.Network }

// magicAttribute computes a value; ok is false where it has none.
type magicAttribute func(r *Repository, p place, st *catalog.Stat) (value string, ok bool)

// magicAttributes are the computed attributes by name (CVMFS-FORMAT 6.8).
var magicAttributes = map[string]magicAttribute{
	"user.fqrn": func(r *Repository, _ place, _ *catalog.Stat) (string, bool) { return r.o.Name, true },
	"user.tag":  func(r *Repository, _ place, _ *catalog.Stat) (string, bool) { return r.o.Tag, true },
	"user.revision": func(r *Repository, _ place, _ *catalog.Stat) (string, bool) {
		return strconv.FormatUint(r.head.Load().revision, 10), true
	},
	"user.root_hash": func(r *Repository, _ place, _ *catalog.Stat) (string, bool) {
		return r.head.Load().root.cat.hash.String(), true
	},
	"user.expires": func(r *Repository, _ place, _ *catalog.Stat) (string, bool) { return r.expires(), true },
	"user.pid":     func(*Repository, place, *catalog.Stat) (string, bool) { return strconv.Itoa(os.Getpid()), true },
	"user.uptime": func(r *Repository, _ place, _ *catalog.Stat) (string, bool) {
		return minutes(r.o.Clock().Sub(r.started)), true
	},
	"user.nclg": func(r *Repository, _ place, _ *catalog.Stat) (string, bool) {
		return strconv.Itoa(r.catalogs.count()), true
	},
	"user.nopen": func(r *Repository, _ place, _ *catalog.Stat) (string, bool) {
		return strconv.FormatInt(r.opens.Load(), 10), true
	},
	"user.nioerr": func(r *Repository, _ place, _ *catalog.Stat) (string, bool) {
		return strconv.FormatInt(r.ioErrors.Load(), 10), true
	},
	"user.host":          network(func(n fetch.Network) string { return n.Server }),
	"user.host_list":     network(func(n fetch.Network) string { return strings.Join(n.Servers, ";") }),
	"user.proxy":         network(func(n fetch.Network) string { return n.Proxy }),
	"user.proxy_list":    network(func(n fetch.Network) string { return n.Proxies }),
	"user.ndownload":     network(func(n fetch.Network) string { return strconv.FormatInt(n.Totals.Requests, 10) }),
	"user.rx":            network(func(n fetch.Network) string { return strconv.FormatInt(n.Totals.Bytes/1024, 10) }),
	"user.hash":          magicHash,
	"user.chunks":        magicChunks,
	"user.chunk_list":    magicChunkList,
	"user.compression":   magicCompression,
	"user.direct_io":     ofRegular(func(_ place, st *catalog.Stat) string { return bit(st.Flags&catalog.DirectIO != 0) }),
	"user.external_file": ofRegular(func(_ place, st *catalog.Stat) string { return bit(st.Flags&catalog.External != 0) }),
	"user.rawlink":       magicRawlink,
	"xfsroot.rawlink":    magicRawlink,
	"user.timestamp_last_ioerr": func(r *Repository, _ place, _ *catalog.Stat) (string, bool) {
		return strconv.FormatInt(r.lastError.Load(), 10), true
	},
	"user.catalog_counters": func(_ *Repository, p place, _ *catalog.Stat) (string, bool) {
		mount := p.slot.mount
		if mount == "" {
			mount = "/"
		}
		return "catalog_hash: " + p.slot.cat.hash.String() + "\ncatalog_mountpoint: " + mount + "\n" + counters(p.index), true
	},
}

// magic computes an attribute, or one page of it.
func (r *Repository) magic(ctx context.Context, p place, name string) ([]byte, error) {
	name, page, paged := strings.Cut(name, "~")
	var value string
	var ok bool
	if compute := magicAttributes[name]; compute != nil {
		st := p.stat()
		value, ok = compute(r, p, &st)
	} else if name == "user.repo_counters" {
		root, err := r.at(ctx, r.Root())
		if err != nil {
			return nil, err
		}
		value, ok = counters(root.index), true
		root.release()
	}
	if !ok {
		return nil, view.ErrNoXAttr
	}
	pages := max(1, (len(value)+magicPage-1)/magicPage)
	n := 0
	switch {
	case paged && page == "?":
		return fmt.Appendf(nil, "num_pages, %d\n", pages), nil
	case paged:
		var err error
		if n, err = strconv.Atoi(page); err != nil || n < 0 || n >= pages {
			return nil, view.ErrNoXAttr
		}
	}
	return []byte(value[n*magicPage : min(len(value), (n+1)*magicPage)]), nil
}

func network(of func(fetch.Network) string) magicAttribute {
	return func(r *Repository, _ place, _ *catalog.Stat) (string, bool) {
		n, ok := r.o.Fetcher.(networker)
		if !ok {
			return "", false
		}
		return of(n.Network()), true
	}
}

func ofRegular(of func(p place, st *catalog.Stat) string) magicAttribute {
	return func(_ *Repository, p place, st *catalog.Stat) (string, bool) {
		if st.Mode&catalog.ModeType != catalog.ModeRegular {
			return "", false
		}
		return of(p, st), true
	}
}

// expires is the time left, in minutes, until the whitelist runs out, or says
// that a fixed root needs none.
func (r *Repository) expires() string {
	h := r.head.Load()
	if h.end.IsZero() {
		return "never (fixed root catalog)"
	}
	return minutes(h.end.Sub(r.o.Clock()))
}

func minutes(d time.Duration) string { return strconv.FormatInt(int64(math.Floor(d.Minutes())), 10) }

func bit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func magicHash(_ *Repository, p place, _ *catalog.Stat) (string, bool) {
	h := p.index.Hash(p.row)
	return h.String(), !h.IsZero()
}

func magicChunks(_ *Repository, p place, st *catalog.Stat) (string, bool) {
	if st.Mode&catalog.ModeType != catalog.ModeRegular {
		return "", false
	}
	if st.Flags&catalog.Chunked == 0 {
		return "1", true
	}
	return strconv.Itoa(len(p.index.Chunks(p.row))), true
}

func magicChunkList(_ *Repository, p place, st *catalog.Stat) (string, bool) {
	if st.Mode&catalog.ModeType != catalog.ModeRegular {
		return "", false
	}
	chunks := p.index.Chunks(p.row)
	if chunks == nil {
		chunks = []catalog.Chunk{{Hash: p.index.Hash(p.row), Size: st.Size}}
	}
	var b strings.Builder
	b.WriteString("hash,offset,size\n")
	for _, c := range chunks {
		fmt.Fprintf(&b, "%s,%d,%d\n", c.Hash, c.Offset, c.Size)
	}
	return b.String(), true
}

func magicCompression(_ *Repository, _ place, st *catalog.Stat) (string, bool) {
	return st.Compression.String(), st.Mode&catalog.ModeType == catalog.ModeRegular
}

func magicRawlink(_ *Repository, p place, st *catalog.Stat) (string, bool) {
	return string(p.index.Symlink(p.row)), st.Mode&catalog.ModeType == catalog.ModeSymlink
}

// counters prints a catalog's statistics, with all below it, as stock does.
func counters(x *catalog.Index) string {
	self, subtree := x.Counters()
	c := self.Add(subtree)
	var b strings.Builder
	for _, line := range []struct {
		name  string
		value int64
	}{
		{"regular", c.Regular},
		{"symlink", c.Symlink},
		{"special", c.Special},
		{"dir", c.Dir},
		{"nested", c.Nested},
		{"chunked", c.Chunked},
		{"chunks", c.Chunks},
		{"file_size", c.FileSize},
		{"chunked_size", c.ChunkedSize},
		{"xattr", c.XAttr},
		{"external", c.External},
		{"external_file_size", c.ExternalFileSize},
	} {
		fmt.Fprintf(&b, "%s,%d\n", line.name, line.value)
	}
	return b.String()
}
