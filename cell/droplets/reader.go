package droplets

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"

	"github.com/rootstock-cf/rootstock/inventory"
	"github.com/rootstock-cf/rootstock/inventory/droplet"
)

// Reader reads a layer that is written to it on its way elsewhere. Writing never
// fails, and never waits for more than the reading of what was written before.
type Reader struct {
	digest string
	sum    hash.Hash
	pipe   *io.PipeWriter
	done   chan struct{}
	v      inventory.Inventory
	err    error
}

// NewReader begins to read the layer of that digest. The caller calls Close.
func NewReader(ctx context.Context, digest string) *Reader {
	from, to := io.Pipe()
	r := &Reader{digest: digest, sum: sha256.New(), pipe: to, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.v, r.err = droplet.ReadTar(ctx, from, digest)
		// Whatever follows is nobody's business here: writes go through.
		from.Close() //nolint:errcheck // it cannot fail
	}()
	return r
}

// Write implements io.Writer.
func (r *Reader) Write(b []byte) (int, error) {
	r.sum.Write(b)
	_, _ = r.pipe.Write(b) // the reader has ended: see NewReader
	return len(b), nil
}

// Close ends the layer and returns what it has. ok is false if what was written
// is not what the digest says, or is no layer.
func (r *Reader) Close() (v inventory.Inventory, ok bool) {
	r.pipe.Close() //nolint:errcheck // it cannot fail
	<-r.done
	if r.err != nil || droplet.LayerPrefix+hex.EncodeToString(r.sum.Sum(nil)) != r.digest {
		return inventory.Inventory{}, false
	}
	return r.v, true
}
