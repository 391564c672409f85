package source

import (
	"io"
	"os"
	"sync/atomic"
)

// Progress counts what is read of sources. It may be read at any time.
type Progress struct {
	// Read is how many bytes have been read of files and downloads, as they
	// are stored; of a directory or zip, as a tar.
	Read atomic.Int64
	// Total is how many there are, unless Unknown says that this is not known
	// of all.
	Total   atomic.Int64
	Unknown atomic.Bool
}

// Count has all readings of the layers that begin from now on counted in p,
// and adds what there is to read to its total. A nil p counts nothing.
func (s *Source) Count(p *Progress) {
	if p == nil {
		return
	}
	for _, l := range s.Layers {
		if c, ok := l.(interface{ count(p *Progress) int64 }); ok {
			p.expect(c.count(p))
		}
	}
}

func (p *Progress) expect(size int64) {
	if size < 0 {
		p.Unknown.Store(true)
		return
	}
	p.Total.Add(size)
}

// of counts what is read of r; p may be nil.
func (p *Progress) of(r io.Reader) io.Reader {
	if p == nil {
		return r
	}
	return &countedReader{r, p}
}

type countedReader struct {
	in io.Reader
	p  *Progress
}

func (c *countedReader) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	c.p.Read.Add(int64(n))
	return n, err
}

// count makes p count, and returns the size of the blob, -1 if it is not known.
func (l *layer) count(p *Progress) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.progress = p
	return l.size()
}

// size is how many bytes the blob has, -1 if nobody has said.
func (r *reading) size() int64 {
	if r.want.size >= 0 {
		return r.want.size
	}
	var f fileBlob
	switch b := r.blob.(type) {
	case fileBlob:
		f = b
	case *watchedFile:
		f = b.fileBlob
	default:
		return -1
	}
	if f.size >= 0 {
		return f.size
	}
	st, err := os.Stat(f.path)
	if err != nil {
		return -1 // whoever opens it says why
	}
	return st.Size()
}

func (m *made) count(p *Progress) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.progress = p
	return m.size
}
