package ingest_test

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rootstock-cf/rootstock/publisher/ingest"
)

// lcg is the test data of CVMFS-FORMAT 4.2.
func lcg(n int) []byte {
	b := make([]byte, n)
	s := uint32(1)
	for i := range b {
		s = s*1664525 + 1013904223
		b[i] = byte(s >> 24)
	}
	return b
}

func cuts(c ingest.Chunking, b []byte) (at []int) {
	for last := 0; ; {
		last += c.Cut(b[last:min(len(b), last+int(c.Max))])
		if last == len(b) {
			return at
		}
		at = append(at, last)
	}
}

// CVMFS-FORMAT 4.2.
func TestCutVectors(t *testing.T) {
	every64 := make([]int, 63)
	for i := range every64 {
		every64[i] = 64 * (i + 1)
	}
	for _, tc := range []struct {
		name string
		c    ingest.Chunking
		b    []byte
		want []int
	}{
		{"100 MiB", ingest.DefaultChunking, lcg(100 << 20), []int{
			8059046, 13774758, 28421577, 33356038, 39016113, 51666259, 57505181, 62077536, 66526537,
			83303753, 93561467, 99181225, 104300770,
		}},
		{"1 MiB", ingest.Chunking{Min: 1024, Avg: 65536, Max: 262144}, lcg(1 << 20), []int{
			8166, 24210, 30121, 59836, 139805, 274271, 371245, 378545, 383574, 405383, 462425, 464659, 537994, 565521,
			620326, 623210, 628966, 651583, 691072, 719687, 735811, 743839, 754990, 796538, 893073, 932046, 934052,
			943226, 978645, 1006246, 1028103, 1029161, 1043426,
		}},
		{"zeros", ingest.DefaultChunking, make([]byte, 50<<20), []int{16777216, 33554432, 50331648}},
		{"INT_MIN", ingest.Chunking{Min: 64, Avg: 1024, Max: 2048}, bytes.Repeat([]byte{1}, 4096), every64},
		{"at the end", ingest.Chunking{Min: 64, Avg: 1024, Max: 2048}, make([]byte, 4096), []int{2048}},
		{"min", ingest.Chunking{Min: 64, Avg: 1024, Max: 2048}, bytes.Repeat([]byte{1}, 64), nil},
		{"more than min", ingest.Chunking{Min: 64, Avg: 1024, Max: 2048}, bytes.Repeat([]byte{1}, 65), []int{64}},
		{"empty", ingest.DefaultChunking, nil, nil},
	} {
		if got := cuts(tc.c, tc.b); !slices.Equal(got, tc.want) {
			t.Errorf("%s: cuts at %v, want %v", tc.name, got, tc.want)
		}
	}
	if n := (ingest.Chunking{}).Cut(make([]byte, 100)); n != 100 {
		t.Errorf("chunking that is off cuts at %d", n)
	}
}

// The detector against the text of CVMFS-FORMAT 4.2, word by word.
func TestCutAgainstTheFormat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		low := rapid.Int64Range(32, 100).Draw(t, "min")
		c := ingest.Chunking{Min: low, Avg: low + rapid.Int64Range(1, 50).Draw(t, "avg")}
		c.Max = c.Avg + rapid.Int64Range(1, 200).Draw(t, "max")
		b := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0x7f, 0x80, 0xff, 'a'}), 0, 2000).Draw(t, "bytes")
		threshold := int32((1<<32 - 1) / c.Avg)
		var want []int
		for last := int64(0); ; {
			var x uint32
			p := last + c.Min - 32
			for ; p < last+c.Min && p < int64(len(b)); p++ {
				x = x<<1 ^ uint32(b[p])
			}
			for ; p < last+c.Max && p < int64(len(b)); p++ {
				x = x<<1 ^ uint32(b[p])
				d := int32(x) - 0x7fffffff
				if d < 0 {
					d = -d
				}
				if d < threshold {
					break
				}
			}
			if p >= int64(len(b)) {
				break
			}
			want = append(want, int(p))
			last = p
		}
		if got := cuts(c, b); !slices.Equal(got, want) {
			t.Fatalf("cuts at %v, want %v", got, want)
		}
	})
}

func TestChunkingCheck(t *testing.T) {
	for _, tc := range []struct {
		c  ingest.Chunking
		ok bool
	}{
		{ingest.Chunking{}, true},
		{ingest.DefaultChunking, true},
		{ingest.Chunking{Min: 32, Avg: 33, Max: 34}, true},
		{ingest.Chunking{Min: 31, Avg: 33, Max: 34}, false},
		{ingest.Chunking{Min: 33, Avg: 33, Max: 34}, false},
		{ingest.Chunking{Min: 32, Avg: 34, Max: 34}, false},
		{ingest.Chunking{Min: 32, Avg: 33, Max: 1<<30 + 1}, false},
		{ingest.Chunking{Avg: 33, Max: 34}, false},
	} {
		if err := tc.c.Check(); (err == nil) != tc.ok {
			t.Errorf("%v: %v", tc.c, err)
		}
	}
}

func BenchmarkCut(b *testing.B) {
	data := lcg(100 << 20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		cuts(ingest.DefaultChunking, data)
	}
}
