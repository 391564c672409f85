package droplet

import (
	"crypto/sha256"
	"hash"
	"io"

	"github.com/rootstock-cf/rootstock/object"
)

// hashed names the content that is written through it.
type hashed struct {
	to  io.Writer
	sum hash.Hash
}

func newHash(to io.Writer) *hashed { return &hashed{to, sha256.New()} }

func (h *hashed) Write(p []byte) (int, error) {
	h.sum.Write(p)
	return h.to.Write(p)
}

func (h *hashed) id() object.ContentID { return object.ContentID(h.sum.Sum(nil)) }
