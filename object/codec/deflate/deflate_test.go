package deflate_test

import (
	"bytes"
	"compress/zlib"
	"encoding/hex"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/rootstock-cf/rootstock/object/codec/deflate"
)

// CVMFS-FORMAT 9.2.
func TestVectors(t *testing.T) {
	for plain, want := range map[string]string{
		"":                       "789c030000000001",
		"hello\n":                "789ccb48cdc9c9e70200084b021f",
		strings.Repeat("a", 100): "789c4b4ca43d00007a4725e5",
	} {
		if got := hex.EncodeToString(deflate.Append(nil, []byte(plain))); got != want {
			t.Errorf("%q: %s, want %s", plain, got, want)
		}
	}
}

func TestCrafted(t *testing.T) {
	type result struct {
		name     string
		src, got []byte
	}
	var results []result
	for name, src := range crafted() {
		results = append(results, result{name, src, deflate.Append(nil, src)})
	}
	t.Run("transpiled", func(t *testing.T) {
		for _, r := range results {
			compareTo(t, transpiled, r.name, r.src, r.got)
		}
	})
	t.Run("installed", func(t *testing.T) {
		ref := installed(t)
		for _, r := range results {
			compareTo(t, ref, r.name, r.src, r.got)
		}
	})
}

// Identity proves little about the stream if the references are read wrongly;
// this one reads it.
func TestStreamsInflate(t *testing.T) {
	for _, src := range [][]byte{nil, text(30, 300_000), noise(30, 300_000), make([]byte, 300_000)} {
		r, err := zlib.NewReader(bytes.NewReader(deflate.Append(nil, src)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, src) {
			t.Errorf("%d bytes come back as %d, %v", len(src), len(got), err)
		}
	}
}

func TestAppendKeepsWhatIsThere(t *testing.T) {
	src := text(31, 50_000)
	want := append([]byte("before"), deflate.Append(nil, src)...)
	for _, capacity := range []int{6, 7, 20, len(want) - 1, len(want), len(want) + 1, 2 * len(want)} {
		dst := append(make([]byte, 0, capacity), "before"...)
		if got := deflate.Append(dst, src); !bytes.Equal(got, want) {
			t.Errorf("capacity %d: a different result", capacity)
		}
	}
}

// An encoder is used again without being cleared, and by whoever comes next.
func TestConcurrentUse(t *testing.T) {
	inputs := [][]byte{text(32, 90_000), noise(32, 40_000), make([]byte, 70_000), text(33, 10), nil, skewed(32, 120_000, 5)}
	want := make([][]byte, len(inputs))
	for i, src := range inputs {
		var err error
		if want[i], err = transpiled(src); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for k := range 40 {
				i := (g + k*k) % len(inputs)
				if !bytes.Equal(deflate.Append(nil, inputs[i]), want[i]) {
					t.Errorf("input %d: a different result in company", i)
				}
			}
		})
	}
	wg.Wait()
}

func TestAppendAllocatesNothing(t *testing.T) {
	src := text(34, 300_000)
	dst := deflate.Append(nil, src)
	// The pool may be emptied by a collection now and then, so not each run counts.
	if n := testing.AllocsPerRun(100, func() { dst = deflate.Append(dst[:0], src) }); n >= 1 {
		t.Errorf("%v allocations per call with room in dst", n)
	}
}
