// Package seen remembers sources from one publish to the next: what the layers
// said (package flatten encodes it), which digests a file on disk had, and the
// small blobs of images. With it a layer that was published once is neither
// downloaded nor decompressed again, and a tar that has not changed is not read.
//
// It is a directory of files and a cache: whatever is lost, cut short or
// damaged costs the time to read a source again and nothing else. A file is
// believed only if the SHA-256 at its end, which covers its name too, is right;
// contents are named by their ids and count only if the store has their
// objects, which package ingest asks.
package seen

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// DefaultLimit is how many bytes a directory may hold.
const DefaultLimit = 1 << 30

// maxPlain bounds what a file may decompress to, in bytes.
const maxPlain = 1 << 30

// Options are those of [Open]; the zero value is usable.
type Options struct {
	// Limit bounds the bytes of all files; those that were longest not asked
	// for go first. 0 is [DefaultLimit].
	Limit int64
	// Forget answers every question with no, and keeps what is told: for a
	// run that reads everything anew.
	Forget bool
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Dir is a directory of what was seen. Its methods may be called concurrently,
// from several processes as well. A nil Dir remembers nothing. What cannot be
// written is not kept, and not complained of: the next run finds out.
type Dir struct {
	path string
	o    Options
}

// Open returns the memory in a directory, which is made when something is kept.
func Open(path string, o Options) *Dir {
	if o.Limit <= 0 {
		o.Limit = DefaultLimit
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Dir{path, o}
}

// Forgetting is the same directory with Options.Forget.
func (d *Dir) Forgetting() *Dir {
	o := d.o
	o.Forget = true
	return &Dir{d.path, o}
}

// Recall implements flatten.Memory.
func (d *Dir) Recall(diffID string) []byte { return d.load("layer", diffID) }

// Remember implements flatten.Memory.
func (d *Dir) Remember(diffID string, said []byte) { d.keep("layer", diffID, said) }

// Blob returns a small blob of an image by its digest, or nil. The caller
// verifies it as if it came from a registry.
func (d *Dir) Blob(digest string) []byte { return d.load("blob", digest) }

// KeepBlob keeps a blob that was verified.
func (d *Dir) KeepBlob(digest string, b []byte) { d.keep("blob", digest, b) }

// name is the file that holds what is known of key, whatever bytes that has.
func (d *Dir) name(kind, key string) string {
	sum := sha256.Sum256([]byte(kind + "\x00" + key))
	return filepath.Join(d.path, kind+"-"+hex.EncodeToString(sum[:]))
}

func (d *Dir) load(kind, key string) []byte {
	if d == nil || d.o.Forget {
		return nil
	}
	name := d.name(kind, key)
	b, err := os.ReadFile(name) // #nosec G304 -- the operator's directory and a name of ours
	if err != nil || len(b) < sha256.Size {
		return nil
	}
	packed, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if want := seal(kind, key, packed); !bytes.Equal(sum, want[:]) {
		os.Remove(name) //nolint:errcheck,gosec // it is refused again next time
		return nil
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPlain))
	if err != nil {
		return nil
	}
	defer z.Close()
	plain, err := z.DecodeAll(packed, []byte{})
	if err != nil {
		return nil
	}
	now := d.o.Now()
	os.Chtimes(name, now, now) //nolint:errcheck,gosec // it may be dropped earlier then
	return plain
}

// seal proves that packed is what was kept under key.
func seal(kind, key string, packed []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte(kind + "\x00" + key + "\x00")) //nolint:errcheck // a hash.Hash never fails
	h.Write(packed)                               //nolint:errcheck // as above
	return [sha256.Size]byte(h.Sum(nil))
}

func (d *Dir) keep(kind, key string, plain []byte) {
	if d == nil || len(plain) > maxPlain {
		return
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return
	}
	packed := z.EncodeAll(plain, nil)
	sum := seal(kind, key, packed)
	packed = append(packed, sum[:]...)
	if int64(len(packed)) > d.o.Limit || os.MkdirAll(d.path, 0o700) != nil {
		return
	}
	f, err := os.CreateTemp(d.path, "new-*")
	if err != nil {
		return
	}
	_, err = f.Write(packed)
	if cerr := f.Close(); err != nil || cerr != nil || os.Rename(f.Name(), d.name(kind, key)) != nil {
		os.Remove(f.Name()) //nolint:errcheck,gosec // swept later
		return
	}
	now := d.o.Now()
	os.Chtimes(d.name(kind, key), now, now) //nolint:errcheck,gosec // as in load
	d.sweep()
}

// abandoned is how old a file has to be whose writer must have died.
const abandoned = 24 * time.Hour

// sweep drops what was longest not asked for until the rest is within the
// limit.
func (d *Dir) sweep() {
	list, err := os.ReadDir(d.path)
	if err != nil {
		return
	}
	var all []fs.FileInfo
	var total int64
	for _, e := range list {
		i, err := e.Info()
		if err != nil || !i.Mode().IsRegular() {
			continue
		}
		if strings.HasPrefix(e.Name(), "new-") {
			if d.o.Now().Sub(i.ModTime()) > abandoned {
				os.Remove(filepath.Join(d.path, e.Name())) //nolint:errcheck,gosec // next time
			}
			continue
		}
		all = append(all, i)
		total += i.Size()
	}
	slices.SortFunc(all, func(a, b fs.FileInfo) int {
		return cmp.Or(a.ModTime().Compare(b.ModTime()), strings.Compare(a.Name(), b.Name()))
	})
	for _, i := range all {
		if total <= d.o.Limit {
			return
		}
		if os.Remove(filepath.Join(d.path, i.Name())) == nil {
			total -= i.Size()
		}
	}
}
