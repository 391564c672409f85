package client

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/client/fetch"
)

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
	"user.version": func(*Repository, place, *catalog.Stat) (string, bool) { return version(), true },
	"user.pubkeys": func(r *Repository, _ place, _ *catalog.Stat) (string, bool) { return pubkeys(r.o.Trust.Keys), true },
	"user.hitrate": func(r *Repository, _ place, _ *catalog.Stat) (string, bool) { return hitrate(r.o.Cache.Stats()), true },
	"user.maxfd":   func(*Repository, place, *catalog.Stat) (string, bool) { return maxFiles() },
	"user.usedfd":  func(*Repository, place, *catalog.Stat) (string, bool) { return openFiles() },
	"user.nclg": func(r *Repository, _ place, _ *catalog.Stat) (string, bool) {
		return strconv.Itoa(r.catalogs.count()), true
	},
	"user.nopen": func(r *Repository, _ place, _ *catalog.Stat) (string, bool) {
		return strconv.FormatInt(r.opens.Load(), 10), true
	},
	"user.ncleanup24": func(r *Repository, _ place, _ *catalog.Stat) (string, bool) {
		return strconv.Itoa(r.o.Cache.Cleanups(24 * time.Hour)), true
	},
	// Neither is ever sent to this daemon: the kernel opens directories by
	// itself.
	"user.ndiropen": none,
	"user.useddirp": none,
	"user.inode_max": func(r *Repository, _ place, _ *catalog.Stat) (string, bool) {
		return strconv.FormatUint(r.slots.largest(), 10), true
	},
	"user.logbuffer": func(r *Repository, _ place, _ *catalog.Stat) (string, bool) { return r.journal.String(), true },
	"user.nioerr": func(r *Repository, _ place, _ *catalog.Stat) (string, bool) {
		return strconv.FormatInt(r.ioErrors.Load(), 10), true
	},
	"user.host":                network(func(n fetch.Network) string { return n.Server }),
	"user.host_list":           network(func(n fetch.Network) string { return strings.Join(n.Servers, ";") }),
	"user.proxy":               network(func(n fetch.Network) string { return n.Proxy }),
	"user.proxy_list":          network(func(n fetch.Network) string { return n.Proxies }),
	"user.ndownload":           network(func(n fetch.Network) string { return strconv.FormatInt(n.Totals.Requests, 10) }),
	"user.rx":                  network(func(n fetch.Network) string { return strconv.FormatInt(n.Totals.Bytes/1024, 10) }),
	"user.speed":               network(func(n fetch.Network) string { return speed(n.Totals) }),
	"user.timeout":             network(func(n fetch.Network) string { return seconds(n.Timeout) }),
	"user.timeout_direct":      network(func(n fetch.Network) string { return seconds(n.TimeoutDirect) }),
	"user.external_host":       external(func(n fetch.Network) string { return n.Server }),
	"user.external_timeout":    external(func(n fetch.Network) string { return seconds(n.Timeout) }),
	"user.proxy_list_external": external(func(n fetch.Network) string { return n.Proxies }),
	"user.external_url":        magicExternalURL,
	"user.hash":                magicHash,
	"user.chunks":              magicChunks,
	"user.chunk_list":          magicChunkList,
	"user.compression":         magicCompression,
	"user.direct_io":           ofRegular(func(_ place, st *catalog.Stat) string { return bit(st.Flags&catalog.DirectIO != 0) }),
	"user.external_file":       ofRegular(func(_ place, st *catalog.Stat) string { return bit(st.Flags&catalog.External != 0) }),
	"user.rawlink":             magicRawlink,
	"xfsroot.rawlink":          magicRawlink,
	"user.timestamp_last_ioerr": func(r *Repository, _ place, _ *catalog.Stat) (string, bool) {
		return strconv.FormatInt(r.lastError.Load(), 10), true
	},
}

func none(*Repository, place, *catalog.Stat) (string, bool) { return "0", true }

// speed is what bodies came in at, in kB/s.
func speed(t fetch.Totals) string {
	if ms := (t.Waited + t.Reading).Milliseconds(); ms > 0 {
		return strconv.FormatInt(t.Bytes/1024*1000/ms, 10)
	}
	return "n/a"
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

// external asks the way to files outside the repository, where there is one.
func external(of func(fetch.Network) string) magicAttribute {
	return func(r *Repository, _ place, _ *catalog.Stat) (string, bool) {
		n, ok := r.o.External.(networker)
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

// expires is the time, in minutes, for which what is shown counts as current,
// as stock has it: the repository's TTL since the servers were last asked with
// success. When the whitelist ends is in [Status].
func (r *Repository) expires() string {
	if r.fixed() {
		return "never (fixed root catalog)"
	}
	h := r.head.Load()
	end := h.checked.Add(time.Duration(h.manifest.TTL) * time.Second)
	return minutes(max(0, end.Sub(r.o.Clock())))
}

func minutes(d time.Duration) string { return strconv.FormatInt(int64(math.Floor(d.Minutes())), 10) }

func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

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

func magicExternalURL(r *Repository, p place, st *catalog.Stat) (string, bool) {
	n, ok := r.o.External.(networker)
	if !ok || st.Flags&catalog.External == 0 {
		return "", false
	}
	return n.Network().Server + p.path(), true
}
