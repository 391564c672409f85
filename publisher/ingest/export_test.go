package ingest

import (
	"context"
	"encoding/binary"
)

// Reseal corrects the checksums of an index whose object records a test has
// changed.
func Reseal(b []byte) []byte {
	for at := headerBytes; at < len(b) && b[at] == kindObject; at += objectBytes {
		end := at + objectBytes - 4
		binary.LittleEndian.PutUint32(b[end:], checksum(b[at:end]))
	}
	return b
}

// Lender is the memory of a run.
type Lender struct{ *buffers }

// NewLender returns a Lender of so many bytes.
func NewLender(limit int64) Lender { return Lender{newBuffers(limit)} }

// Get lends, Put takes back, Held is what is lent and what is kept.
func (l Lender) Get(ctx context.Context, n int) ([]byte, error) { return l.get(ctx, n) }
func (l Lender) Put(b []byte)                                   { l.put(b) }
func (l Lender) Held() (lent, kept int64)                       { return l.out, l.pooled }
