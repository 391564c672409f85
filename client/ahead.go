package client

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/object"
)

// ahead fetches objects before they are asked for, as long as a reader goes
// through files in the order of their rows: a listing has that order, and the
// rows of one depth lie behind each other, so a walk over many directories is
// a few such streams. Nothing is fetched ahead for a reader that picks files
// here and there, and never more files than a stream has read already.
//
// What fails is left to whoever reads the file, who is told why.
type ahead struct {
	r       *Repository
	fetched atomic.Int64
	rests   atomic.Int64 // until then, in UNIX nanoseconds

	ctx    context.Context //nolint:containedctx // of what outlives a call
	cancel context.CancelFunc
	work   sync.WaitGroup
	jobs   chan job

	mu      sync.Mutex
	clock   int64
	streams [16]stream
	pending map[cache.Key]struct{}
	bytes   int64 // of pending
	workers int
	closed  bool
}

// job is one object that is to be fetched.
type job struct {
	source
	key   cache.Key
	chunk catalog.Chunk
	kind  object.Type
}

// stream is a reader's way through the rows of a catalog.
type stream struct {
	slot *slot
	last uint32 // row opened last
	next uint32 // first row that has not been looked at
	run  int    // files opened one after the other
	used int64  // when, in opens
}

const (
	aheadNear  = 8    // rows between two files of a stream: links and directories
	aheadFiles = 32   // most files ahead of a reader
	aheadStart = 2    // files in a row that make a stream
	aheadSlots = 4    // fetched at the same time
	aheadQueue = 1024 // most objects on their way
	// aheadTimeout is the time after which a fetch is given up that nobody
	// asked for.
	aheadTimeout = 30 * time.Second
	// aheadRest is for how long nothing is fetched ahead after that failed:
	// servers that are down are asked for what is wanted, and no more.
	aheadRest = 2 * time.Second
)

func (a *ahead) init(r *Repository) {
	a.r, a.pending, a.jobs = r, map[cache.Key]struct{}{}, make(chan job, aheadQueue)
	a.ctx, a.cancel = context.WithCancel(context.Background())
}

// close ends what is being fetched and waits for it.
func (a *ahead) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.cancel()
	a.work.Wait()
}

// opened is told of each file that is opened. It does not wait.
func (a *ahead) opened(p place) {
	if a.r.o.Ahead < 0 || a.r.unstored.Load() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.follow(p)
	if s.run < aheadStart {
		return
	}
	end := min(int64(p.index.Len()), int64(p.row)+1+int64(min(s.run, aheadFiles)))
	for s.next = max(s.next, p.row+1); int64(s.next) < end; s.next++ {
		st := p.index.Stat(s.next)
		if st.Mode&catalog.ModeType != catalog.ModeRegular || st.Size == 0 || st.Flags&(catalog.Chunked|catalog.External) != 0 {
			continue
		}
		src := source{r: a.r, from: a.r.o.Fetcher, compression: st.Compression}
		if !a.start(src, catalog.Chunk{Size: st.Size, Hash: p.index.Hash(s.next)}, object.Bulk) {
			return
		}
	}
}

// follow finds the stream that a row belongs to, or begins one in the place of
// the one that was used longest ago. mu is held.
func (a *ahead) follow(p place) *stream {
	a.clock++
	oldest := &a.streams[0]
	for i := range a.streams {
		s := &a.streams[i]
		if s.slot == p.slot && p.row >= s.last && p.row-s.last <= aheadNear {
			if p.row > s.last {
				s.run++
			}
			s.last, s.used = p.row, a.clock
			return s
		}
		if s.used < oldest.used {
			oldest = s
		}
	}
	*oldest = stream{slot: p.slot, last: p.row, next: p.row + 1, run: 1, used: a.clock}
	return oldest
}

// fetch has one object fetched, if there is room for it.
func (a *ahead) fetch(s source, c catalog.Chunk, t object.Type) {
	if a.r.o.Ahead < 0 || s.external != "" || a.r.unstored.Load() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.start(s, c, t)
}

// start reports false if what is on its way is enough. A single object may be
// larger than the bound. mu is held.
func (a *ahead) start(s source, c catalog.Chunk, t object.Type) bool {
	k := cache.Object(c.Hash, s.compression)
	if _, ok := a.pending[k]; ok || c.Hash.IsZero() || a.r.o.Cache.Has(k) {
		return true
	}
	if a.closed || time.Now().UnixNano() < a.rests.Load() || a.bytes > 0 && a.bytes+c.Size > a.r.o.Ahead {
		return false
	}
	select {
	case a.jobs <- job{source: s, key: k, chunk: c, kind: t}:
	default:
		return false
	}
	a.pending[k] = struct{}{}
	a.bytes += c.Size
	if a.workers < min(aheadSlots, len(a.pending)) {
		a.workers++
		a.work.Go(a.run)
	}
	return true
}

// run fetches what is wanted until the repository is closed: a goroutine for
// each object would grow a stack for each.
func (a *ahead) run() {
	for {
		select {
		case j := <-a.jobs:
			a.do(&j)
		case <-a.ctx.Done():
			return
		}
	}
}

func (a *ahead) do(j *job) {
	ctx, cancel := context.WithTimeout(a.ctx, aheadTimeout)
	defer cancel()
	err := a.r.o.Cache.Ensure(ctx, j.key, j.chunk.Size, func(ctx context.Context, w cache.Writer) error {
		return j.fetch(ctx, j.chunk, j.kind, w)
	})
	if err != nil {
		a.rests.Store(time.Now().Add(aheadRest).UnixNano())
	} else {
		a.fetched.Add(1)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.pending, j.key)
	a.bytes -= j.chunk.Size
}
