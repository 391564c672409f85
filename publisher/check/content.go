package check

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"io/fs"
	"sync"

	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
)

// claim is a want, with where the path that makes it is kept.
type claim struct {
	want
	path uint64
}

// objects checks every object that was asked for, once.
func (c *checker) objects(ctx context.Context) error {
	if err := c.wants.finish(); err != nil {
		return err
	}
	c.progress.Asked.Store(c.wants.n)
	jobs := make(chan []claim, 4*c.o.Workers)
	var wg sync.WaitGroup
	for range c.o.Workers {
		wg.Go(func() {
			for claims := range jobs {
				if ctx.Err() == nil {
					c.object(ctx, claims)
				}
			}
		})
	}
	err := c.group(ctx, jobs)
	close(jobs)
	wg.Wait()
	return errors.Join(err, ctx.Err())
}

// maxClaims is how many claims on one object are looked at. Many files have
// one content; that they agree has been seen after a while.
const maxClaims = 1024

// group hands out the sorted claims, those of one object together.
func (c *checker) group(ctx context.Context, jobs chan<- []claim) error {
	var key, last []byte
	var claims []claim
	for rec, err := range c.wants.sorter.Sorted() {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		c.progress.Answered.Add(1)
		if !bytes.Equal(rec[:objectBytes], key) {
			if len(claims) > 0 {
				jobs <- claims
			}
			key, claims, last = append(key[:0], rec[:objectBytes]...), nil, last[:0]
		}
		// Of those that say the same, the first path is enough.
		if says := rec[:wantBytes-8]; !bytes.Equal(says, last) && len(claims) < maxClaims {
			last = append(last[:0], says...)
			w, path := parseWant(rec)
			claims = append(claims, claim{w, path})
		}
	}
	if len(claims) > 0 {
		jobs <- claims
	}
	return nil
}

// object checks one object against all that is claimed of it.
func (c *checker) object(ctx context.Context, claims []claim) {
	file := name(claims[0].hash, claims[0].typ)
	here := at{c.wants.path(claims[0].path), file}
	c.progress.Objects.Add(1)
	if c.o.NoContent {
		if !c.exists(ctx, file) {
			c.find(Missing, here, "is not there")
		}
		return
	}
	for len(claims) > 0 {
		n := 1
		for n < len(claims) && claims[n].size == claims[0].size && claims[n].compression == claims[0].compression {
			n++
		}
		if !c.read(ctx, claims[:n]) {
			return
		}
		claims = claims[n:]
	}
}

// read decodes an object in the one way that claims agree on, and compares
// their contents. It returns false if the object is not there at all.
func (c *checker) read(ctx context.Context, claims []claim) bool {
	w := claims[0]
	named := w
	for _, cl := range claims {
		if !cl.content.IsZero() {
			named = cl
		}
	}
	if named.content.IsZero() && c.sawChunk(w.want) {
		return true
	}
	here := at{c.wants.path(w.path), name(w.hash, w.typ)}
	var sum hash.Hash
	dst := io.Discard
	if !named.content.IsZero() {
		sum = sha256.New()
		dst = sum
	}
	err := c.decode(ctx, dst, w.want)
	if err != nil {
		if ctx.Err() == nil {
			c.unreadable(Content, here, err)
		}
		return !errors.Is(err, fs.ErrNotExist)
	}
	if sum == nil {
		return true
	}
	got := object.ContentID(sum.Sum(nil))
	for _, cl := range claims {
		if !cl.content.IsZero() && cl.content != got {
			c.find(Content, at{c.wants.path(cl.path), here.object}, "it holds content %s, the tree's table says %s", got, cl.content)
		}
	}
	return true
}

// decode writes the plain bytes of an object to dst, verified.
func (c *checker) decode(ctx context.Context, dst io.Writer, w want) error {
	r, err := c.o.Store.Get(ctx, name(w.hash, w.typ))
	if err != nil {
		return err
	}
	defer r.Close()
	// No encoding makes bytes this much longer: a stream without an end
	// that decodes to nothing stops here.
	in := &counted{r: io.LimitReader(r, w.size+w.size/4+64<<10+1)}
	_, err = codec.Decode(dst, in, codec.Expect{Hash: w.hash, Compression: w.compression, Size: w.size})
	c.progress.Bytes.Add(in.n)
	return err
}

type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// chunkKey is a chunk in one encoding.
type chunkKey struct {
	hash        object.Hash
	compression object.Compression
	size        int64
}

func (c *checker) sawChunk(w want) bool {
	if w.typ != object.Partial {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.chunks[chunkKey{w.hash, w.compression, w.size}]
}
