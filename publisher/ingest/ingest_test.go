package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
	"github.com/rootstock-cf/rootstock/publisher/ingest"
)

// memory is a store in memory that counts.
type memory struct {
	mu      sync.Mutex
	objects map[string][]byte
	puts    int
	broken  error
}

func newMemory() *memory { return &memory{objects: map[string][]byte{}} }

func (m *memory) Has(_ context.Context, name string) (int64, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.objects[name]
	return int64(len(b)), ok, nil
}

func (m *memory) Put(_ context.Context, name string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return m.broken
	}
	m.puts++
	m.objects[name] = bytes.Clone(data)
	return nil
}

// read puts a content together again.
func (m *memory) read(s imagemeta.Stored) ([]byte, error) {
	var plain bytes.Buffer
	get := func(h object.Hash, t object.Type, size int64) error {
		b, ok := m.objects[object.Path(h, t)]
		if !ok {
			return fmt.Errorf("%s is missing", object.Path(h, t))
		}
		_, err := codec.Decode(&plain, bytes.NewReader(b), codec.Expect{Hash: h, Compression: s.Compression, Size: size})
		return err
	}
	if len(s.Chunks) == 0 {
		err := get(s.Hash, object.Bulk, s.Size)
		return plain.Bytes(), err
	}
	for _, c := range s.Chunks {
		if err := get(c.Hash, object.Partial, c.Size); err != nil {
			return nil, err
		}
	}
	return plain.Bytes(), nil
}

var small = ingest.Chunking{Min: 4 << 10, Avg: 16 << 10, Max: 64 << 10}

func options(workers int) ingest.Options {
	return ingest.Options{Compression: object.Zstd, Algorithm: object.SHAKE128, Chunking: small, Workers: workers}
}

// contents are some of every size, with repetitions, whole and of parts.
func contents() [][]byte {
	rng := rand.NewChaCha8([32]byte{7})
	noise := make([]byte, 500_000)
	rng.Read(noise) //nolint:errcheck // never fails
	all := [][]byte{
		nil, []byte("a"), []byte("b"), nil, []byte("a"),
		noise, noise, slices.Concat(noise, []byte("tail")), slices.Concat([]byte("head"), noise),
		noise[:4<<10], noise[:4<<10+1], noise[:64<<10], make([]byte, 300_000), make([]byte, 64<<10), lcg(200_000),
	}
	for i := range 200 {
		all = append(all, []byte(strings.Repeat(fmt.Sprint(i%150, " "), i)))
	}
	return all
}

func run(t testing.TB, m *memory, o ingest.Options, all [][]byte) *ingest.Ingester {
	t.Helper()
	in, err := ingest.New(t.Context(), m, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		id, err := in.Ingest(t.Context(), int64(len(b)), bytes.NewReader(b))
		if err != nil || id != object.ContentOf(b) {
			t.Fatalf("content of %d bytes is %s, %v", len(b), id, err)
		}
	}
	if err := in.Wait(); err != nil {
		t.Fatal(err)
	}
	return in
}

func TestIngest(t *testing.T) {
	all := contents()
	var total int64
	for _, b := range all {
		total += int64(len(b))
	}
	for _, c := range []object.Compression{object.Zstd, object.Zlib, object.None} {
		for _, chunking := range []ingest.Chunking{small, {}} {
			o := options(2)
			o.Compression, o.Chunking = c, chunking
			m := newMemory()
			in := run(t, m, o, all)
			for _, b := range all {
				s, ok := in.Stored(object.ContentOf(b))
				if !ok || s.Size != int64(len(b)) {
					t.Fatalf("%s: content of %d bytes: %v, %v", c, len(b), s, ok)
				}
				if got, err := m.read(s); err != nil || !bytes.Equal(got, b) {
					t.Fatalf("%s: content of %d bytes came back with %d, %v", c, len(b), len(got), err)
				}
				want := []int{len(b)}
				if chunking.Enabled() {
					want = append(cuts(chunking, b), len(b))
				}
				if got := ends(s); !slices.Equal(got, want) {
					t.Fatalf("%s: content of %d bytes ends pieces at %v, want %v", c, len(b), got, want)
				}
				if whole := len(want) == 1; s.Hash.IsZero() == whole || (len(s.Chunks) == 0) != whole {
					t.Fatalf("%s: content of %d bytes in %d pieces is stored as %+v", c, len(b), len(want), s)
				}
			}
			n := in.Counters()
			if n.BytesIn != total || n.ObjectsNew != int64(len(m.objects)) || n.ObjectsKnown != 0 || m.puts != len(m.objects) {
				t.Errorf("%s: counted %+v for %d bytes, %d objects put %d times", c, n, total, len(m.objects), m.puts)
			}
			var stored int64
			for _, b := range m.objects {
				stored += int64(len(b))
			}
			if n.BytesStored != stored {
				t.Errorf("%s: counted %d bytes stored, not %d", c, n.BytesStored, stored)
			}
			if _, ok := in.Stored(object.ContentID{1}); ok {
				t.Errorf("%s: a content nobody ingested is stored", c)
			}
			again := run(t, m, o, all).Counters()
			if again.ObjectsNew != 0 || again.BytesStored != 0 || again.ObjectsKnown != n.ObjectsNew {
				t.Errorf("%s: second run counted %+v after %+v", c, again, n)
			}
		}
	}
}

// ends lists where the pieces of s end.
func ends(s imagemeta.Stored) []int {
	if len(s.Chunks) == 0 {
		return []int{int(s.Size)}
	}
	var at []int
	end := 0
	for _, c := range s.Chunks {
		end += int(c.Size)
		at = append(at, end)
	}
	return at
}

func TestIngestIsDeterministic(t *testing.T) {
	all := contents()
	first := newMemory()
	run(t, first, options(1), all)
	for workers := 2; workers < 6; workers++ {
		slices.Reverse(all)
		m := newMemory()
		run(t, m, options(workers), all)
		if !maps.EqualFunc(first.objects, m.objects, bytes.Equal) {
			t.Fatalf("%d workers stored other objects", workers)
		}
	}
}

func TestIngestConcurrently(t *testing.T) {
	all := contents()
	want := newMemory()
	run(t, want, options(1), all)
	m := newMemory()
	in, err := ingest.New(t.Context(), m, options(3))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, b := range all {
		wg.Go(func() {
			if _, err := in.Ingest(t.Context(), int64(len(b)), iotest.HalfReader(bytes.NewReader(b))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := in.Wait(); err != nil {
		t.Fatal(err)
	}
	if !maps.EqualFunc(want.objects, m.objects, bytes.Equal) {
		t.Error("concurrent callers stored other objects")
	}
}

func TestFirstErrorEndsTheRun(t *testing.T) {
	broken := errors.New("broken")
	ingestOne := func(in *ingest.Ingester, r io.Reader, size int64) error {
		_, err := in.Ingest(t.Context(), size, r)
		return err
	}
	for name, tc := range map[string]struct {
		fail func(*memory, *ingest.Ingester) error
		want error
	}{
		"short content": {func(_ *memory, in *ingest.Ingester) error {
			return ingestOne(in, strings.NewReader("x"), 2)
		}, io.ErrUnexpectedEOF},
		"short large content": {func(_ *memory, in *ingest.Ingester) error {
			return ingestOne(in, bytes.NewReader(lcg(200_000)), 200_001)
		}, io.ErrUnexpectedEOF},
		"reader": {func(_ *memory, in *ingest.Ingester) error {
			return ingestOne(in, iotest.ErrReader(broken), 1)
		}, broken},
		"store": {func(m *memory, in *ingest.Ingester) error {
			m.broken = broken
			if err := ingestOne(in, strings.NewReader("x"), 1); err != nil {
				return err
			}
			return in.Wait()
		}, broken},
		"store, large": {func(m *memory, in *ingest.Ingester) error {
			m.broken = broken
			if err := ingestOne(in, bytes.NewReader(lcg(2_000_000)), 2_000_000); err != nil {
				return err
			}
			return in.Wait()
		}, broken},
		"damaged object": {func(m *memory, in *ingest.Ingester) error {
			stored, err := codec.Encode(object.Zstd, nil, []byte("x"))
			if err != nil {
				return err
			}
			m.objects[object.Path(object.SHAKE128.Sum(stored), object.Bulk)] = nil
			if err := ingestOne(in, strings.NewReader("x"), 1); err != nil {
				return err
			}
			return in.Wait()
		}, ingest.ErrDamaged},
	} {
		m := newMemory()
		in, err := ingest.New(t.Context(), m, options(2))
		if err != nil {
			t.Fatal(err)
		}
		if err := tc.fail(m, in); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err := ingestOne(in, strings.NewReader("y"), 1); !errors.Is(err, tc.want) {
			t.Errorf("%s: a later call returned %v", name, err)
		}
		if err := in.Wait(); !errors.Is(err, tc.want) {
			t.Errorf("%s: Wait returned %v", name, err)
		}
		if _, err := in.Adopt(t.Context(), object.EmptyContent); !errors.Is(err, tc.want) {
			t.Errorf("%s: Adopt returned %v", name, err)
		}
	}
}

// endless is so many bytes that repeat, and the most memory that was in use
// while they were read.
type endless struct {
	left int64
	peak uint64
}

func (e *endless) Read(p []byte) (int, error) {
	n := int(min(int64(len(p)), e.left))
	clear(p[:n])
	if e.left -= int64(n); e.left>>23 != (e.left+int64(n))>>23 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		e.peak = max(e.peak, m.HeapAlloc)
	}
	return n, nil
}

// However large a content is, no more of it is held than a few pieces.
func TestMemoryIsBounded(t *testing.T) {
	const size = 256 << 20
	in, err := ingest.New(t.Context(), newMemory(), options(2))
	if err != nil {
		t.Fatal(err)
	}
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r := &endless{left: size}
	id, err := in.Ingest(t.Context(), size, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Wait(); err != nil {
		t.Fatal(err)
	}
	if s, ok := in.Stored(id); !ok || s.Size != size || len(s.Chunks) != size/(64<<10) {
		t.Errorf("stored as %d bytes in %d pieces, %v", s.Size, len(s.Chunks), ok)
	}
	if more := int64(r.peak) - int64(before.HeapAlloc); r.peak == 0 || more > 16<<20 { // #nosec G115
		t.Errorf("%d bytes more in use while %d were read", more, size)
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	in, err := ingest.New(ctx, newMemory(), options(1))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := in.Ingest(t.Context(), 1, strings.NewReader("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("after the run's context ended: %v", err)
	}
	if err := in.Wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait: %v", err)
	}
}

// stuck is a store whose Put says that it was called and waits for the end of
// the run.
type stuck struct {
	*memory
	called chan struct{}
	once   sync.Once
}

func (s *stuck) Put(ctx context.Context, _ string, _ []byte) error {
	s.once.Do(func() { close(s.called) })
	<-ctx.Done()
	return ctx.Err()
}

// A caller that waits for memory gets away when its context ends, and so does
// everything in flight.
func TestCancelWhileWaiting(t *testing.T) {
	st := &stuck{memory: newMemory(), called: make(chan struct{})}
	in, err := ingest.New(t.Context(), st, options(1))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-st.called
		cancel()
	}()
	b := lcg(4 << 20) // more than the run's memory
	if _, err := in.Ingest(ctx, int64(len(b)), bytes.NewReader(b)); !errors.Is(err, context.Canceled) {
		t.Errorf("Ingest: %v", err)
	}
	if err := in.Wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*ingest.Options){
		"chunking":    func(o *ingest.Options) { o.Chunking.Max = 0 },
		"compression": func(o *ingest.Options) { o.Compression = 7 },
		"algorithm":   func(o *ingest.Options) { o.Algorithm = 0 },
	} {
		o := options(1)
		change(&o)
		if _, err := ingest.New(t.Context(), newMemory(), o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	in, err := ingest.New(t.Context(), newMemory(), ingest.Options{Compression: object.None, Algorithm: object.SHA1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Ingest(t.Context(), 1<<40, nil); err == nil {
		t.Error("1 TiB accepted without chunking")
	}
	in, _ = ingest.New(t.Context(), newMemory(), options(1))
	if _, err := in.Ingest(t.Context(), -1, nil); err == nil {
		t.Error("content of -1 bytes accepted")
	}
}

type discard struct{}

func (discard) Has(context.Context, string) (int64, bool, error) { return 0, false, nil }
func (discard) Put(context.Context, string, []byte) error        { return nil }

func BenchmarkIngest(b *testing.B) {
	words := strings.Fields("the quick brown fox jumps over a lazy dog and some more 0123456789 \x00\x01\x02\xff")
	r := rand.New(rand.NewPCG(1, 2))
	var text strings.Builder
	for text.Len() < 64<<20 {
		text.WriteString(words[r.IntN(len(words))])
	}
	plain := []byte(text.String())
	for _, workers := range []int{1, 2} {
		for name, size := range map[string]int{"large": len(plain), "16KiB": 16 << 10} {
			b.Run(fmt.Sprintf("%s/%d", name, workers), func(b *testing.B) {
				b.SetBytes(int64(len(plain)))
				b.ReportAllocs()
				before := cpu(b)
				for b.Loop() {
					in, err := ingest.New(b.Context(), discard{}, ingest.Options{
						Compression: object.Zstd, Algorithm: object.SHAKE128, Chunking: ingest.DefaultChunking, Workers: workers,
					})
					if err != nil {
						b.Fatal(err)
					}
					for at := 0; at+size <= len(plain); at += size {
						if _, err := in.Ingest(b.Context(), int64(size), bytes.NewReader(plain[at:at+size])); err != nil {
							b.Fatal(err)
						}
					}
					if err := in.Wait(); err != nil {
						b.Fatal(err)
					}
				}
				// On a busy machine this is the number to compare.
				b.ReportMetric(float64(b.N)*float64(len(plain))/1e6/(cpu(b)-before), "MB/CPU-s")
			})
		}
	}
}

// cpu returns the processor time spent so far, in seconds.
func cpu(b *testing.B) float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}
