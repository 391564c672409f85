package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
)

// memory holds what the disk would not take: a few contents, first in, first
// out, so that a reader that comes back for the next piece finds them.
type memory struct {
	held  map[Key][]byte
	order []Key
	bytes int64
	inUse int64 // of bytes being filled
}

// Memory returns the content k names without storing it, for when [Cache.Store]
// failed with ErrCannotStore. It keeps recent contents up to Options.Memory and
// coalesces as Store does; what is larger than that is ErrCannotStore. The
// bytes must not be changed.
func (c *Cache) Memory(ctx context.Context, k Key, size int64, fill func(context.Context, Writer) error) ([]byte, error) {
	if size > c.o.Memory {
		return nil, c.broken(fmt.Errorf("%d bytes are more than may be held in memory (%d)", size, c.o.Memory))
	}
	name := sha256.Sum256(append([]byte{byte(k.space)}, k.sum[:]...))
	for range 3 {
		if b, ok := c.Held(k); ok {
			return b, nil
		}
		err := c.coalesce(ctx, Key{memories, name}, func(ctx context.Context) error {
			if err := c.claim(size); err != nil {
				return err
			}
			defer c.unclaim(size)
			buf := &buffer{limit: size}
			buf.Grow(int(size))
			if err := fill(ctx, buf); err != nil {
				return err
			}
			if int64(buf.Len()) != size {
				return fmt.Errorf("%w: %d bytes, not %d", ErrContent, buf.Len(), size)
			}
			if k.space == contents && sha256.Sum256(buf.Bytes()) != k.sum {
				return fmt.Errorf("%w: %s", ErrContent, k.sum)
			}
			c.remember(k, buf.Bytes())
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return nil, c.broken(fmt.Errorf("too much is read at once to be held in memory (%d bytes)", c.o.Memory))
}

// Held returns what [Cache.Memory] holds of k.
func (c *Cache) Held(k Key) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, ok := c.memory.held[k]
	return b, ok
}

// claim lets fills run only while they fit the bound together.
func (c *Cache) claim(size int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.memory.inUse+size > c.o.Memory {
		return fmt.Errorf("%w: %d bytes are being fetched into memory already", ErrCannotStore, c.memory.inUse)
	}
	c.memory.inUse += size
	return nil
}

func (c *Cache) unclaim(size int64) {
	c.mu.Lock()
	c.memory.inUse -= size
	c.mu.Unlock()
}

func (c *Cache) remember(k Key, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := &c.memory
	if m.held == nil {
		m.held = map[Key][]byte{}
	}
	for len(m.order) > 0 && m.bytes+int64(len(b)) > c.o.Memory {
		m.bytes -= int64(len(m.held[m.order[0]]))
		delete(m.held, m.order[0])
		m.order = m.order[1:]
	}
	m.held[k], m.order, m.bytes = b, append(m.order, k), m.bytes+int64(len(b))
}

// buffer is a Writer in memory.
type buffer struct {
	bytes.Buffer
	limit int64
}

func (b *buffer) Write(p []byte) (int, error) {
	if int64(b.Len()+len(p)) > b.limit {
		return 0, fmt.Errorf("%w: more than %d bytes", ErrContent, b.limit)
	}
	return b.Buffer.Write(p)
}

func (b *buffer) Reset() error {
	b.Buffer.Reset()
	return nil
}
