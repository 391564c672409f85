// Package spill sorts more records than memory should hold: records of one
// size go in, in any order, and come out in ascending order of their bytes,
// each once. What exceeds a bound lies in sorted runs in a temporary file
// until it is merged.
//
// Garbage collection and checks name every object of a repository this way, so
// that their memory does not grow with the repository.
package spill

import (
	"bufio"
	"bytes"
	"container/heap"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"sort"
)

// DefaultMemory is what a [Sorter] holds before it writes a run, in bytes.
const DefaultMemory = 32 << 20

// mergeBuffer is read ahead of each run while they are merged, in bytes.
const mergeBuffer = 64 << 10

// Sorter takes records and gives them back sorted. It is for one goroutine.
type Sorter struct {
	size   int
	memory int
	file   *os.File // holds the runs; nil as long as there is none
	dir    string
	at     int64
	runs   []run
	buf    []byte
	last   []byte // the record added last
	added  int64
}

// run is a sorted piece of the file.
type run struct{ from, to int64 }

// New returns a Sorter of records of size bytes that holds at most memory
// bytes of them; 0 is [DefaultMemory]. Runs go to a file in dir, "" being the
// system's directory for temporary files; it has no name, so that nothing is
// left whatever happens. The caller closes the Sorter.
func New(dir string, size, memory int) *Sorter {
	if memory <= 0 {
		memory = DefaultMemory
	}
	return &Sorter{size: size, memory: max(memory/size, 1) * size, dir: dir}
}

// Add takes a copy of record. A record that equals the one before is dropped
// at once.
func (s *Sorter) Add(record []byte) error {
	if len(record) != s.size {
		return fmt.Errorf("sort: record of %d bytes instead of %d", len(record), s.size)
	}
	if bytes.Equal(s.last, record) {
		return nil
	}
	s.added++
	s.last = append(s.last[:0], record...)
	if len(s.buf)+s.size > s.memory {
		if err := s.flush(); err != nil {
			return err
		}
	}
	s.buf = append(s.buf, record...)
	return nil
}

// Added returns how many records were taken, those that come twice included.
func (s *Sorter) Added() int64 { return s.added }

// flush writes the buffer as a run.
func (s *Sorter) flush() error {
	s.sortBuffer()
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, "rootstock-sort-")
		if err != nil {
			return fmt.Errorf("sort: %w", err)
		}
		if err := os.Remove(f.Name()); err != nil {
			return errors.Join(fmt.Errorf("sort: %w", err), f.Close())
		}
		s.file = f
	}
	w := bufio.NewWriterSize(io.NewOffsetWriter(s.file, s.at), mergeBuffer)
	from := s.at
	for rec := range s.unique() {
		if _, err := w.Write(rec); err != nil {
			return fmt.Errorf("sort: write a run: %w", err)
		}
		s.at += int64(s.size)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("sort: write a run: %w", err)
	}
	s.runs = append(s.runs, run{from, s.at})
	s.buf = s.buf[:0]
	return nil
}

// unique yields the buffer's records, which are sorted, each once.
func (s *Sorter) unique() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for i := 0; i < len(s.buf); i += s.size {
			rec := s.buf[i : i+s.size]
			if i > 0 && bytes.Equal(rec, s.buf[i-s.size:i]) {
				continue
			}
			if !yield(rec) {
				return
			}
		}
	}
}

func (s *Sorter) sortBuffer() { sort.Sort(&records{s.buf, s.size, make([]byte, s.size)}) }

// records sorts the buffer in place.
type records struct {
	b    []byte
	size int
	tmp  []byte
}

func (r *records) at(i int) []byte    { return r.b[i*r.size : (i+1)*r.size] }
func (r *records) Len() int           { return len(r.b) / r.size }
func (r *records) Less(i, j int) bool { return bytes.Compare(r.at(i), r.at(j)) < 0 }
func (r *records) Swap(i, j int) {
	copy(r.tmp, r.at(i))
	copy(r.at(i), r.at(j))
	copy(r.at(j), r.tmp)
}

// Sorted yields all records in ascending order, each once, or an error, which
// is the last pair. A record is valid until the next one. It may be called
// once, after the last Add.
func (s *Sorter) Sorted() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if s.file == nil {
			s.sortBuffer()
			for rec := range s.unique() {
				if !yield(rec, nil) {
					return
				}
			}
			return
		}
		if len(s.buf) > 0 {
			if err := s.flush(); err != nil {
				yield(nil, err)
				return
			}
		}
		s.buf = nil
		s.merge(yield)
	}
}

func (s *Sorter) merge(yield func([]byte, error) bool) {
	h := make(sources, 0, len(s.runs))
	for _, r := range s.runs {
		src := &source{r: bufio.NewReaderSize(io.NewSectionReader(s.file, r.from, r.to-r.from), mergeBuffer), rec: make([]byte, s.size)}
		if _, err := io.ReadFull(src.r, src.rec); err != nil {
			yield(nil, fmt.Errorf("sort: read a run: %w", err))
			return
		}
		h = append(h, src)
	}
	heap.Init(&h)
	var last []byte
	for len(h) > 0 {
		top := h[0]
		if !bytes.Equal(top.rec, last) {
			last = append(last[:0], top.rec...)
			if !yield(last, nil) {
				return
			}
		}
		switch _, err := io.ReadFull(top.r, top.rec); {
		case err == nil:
			heap.Fix(&h, 0)
		case errors.Is(err, io.EOF):
			heap.Pop(&h)
		default:
			yield(nil, fmt.Errorf("sort: read a run: %w", err))
			return
		}
	}
}

// source is a run under way, with the record that comes next.
type source struct {
	r   *bufio.Reader
	rec []byte
}

// sources is the heap of the runs that have records left.
type sources []*source

func (h sources) Len() int           { return len(h) }
func (h sources) Less(i, j int) bool { return bytes.Compare(h[i].rec, h[j].rec) < 0 }
func (h sources) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *sources) Push(x any)        { *h = append(*h, x.(*source)) }
func (h *sources) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// Close frees the memory and the file.
func (s *Sorter) Close() error {
	s.buf = nil
	if s.file == nil {
		return nil
	}
	if err := s.file.Close(); err != nil {
		return fmt.Errorf("sort: %w", err)
	}
	return nil
}
