package fusefs

import (
	"math/bits"
	"sync"
)

// buffers are reply buffers: replyRoom and a payload of a power of two of bytes.
// The zero value is ready.
type buffers struct{ classes [9]sync.Pool }

const smallestPayload = 12 // the first class, as a power of two

// get returns a buffer with room for a reply with payload bytes.
func (b *buffers) get(payload int) *[]byte {
	class := 0
	if payload > 1<<smallestPayload {
		class = bits.Len(uint(payload-1)) - smallestPayload
	}
	if class >= len(b.classes) {
		p := make([]byte, replyRoom+payload)
		return &p
	}
	if p, ok := b.classes[class].Get().(*[]byte); ok {
		return p
	}
	p := make([]byte, replyRoom+1<<(smallestPayload+class))
	return &p
}

// put takes back a buffer that get handed out.
func (b *buffers) put(p *[]byte) {
	payload := len(*p) - replyRoom
	if class := bits.Len(uint(payload-1)) - smallestPayload; class < len(b.classes) {
		b.classes[class].Put(p)
	}
}
