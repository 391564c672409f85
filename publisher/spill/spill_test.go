package spill_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/rootstock-cf/rootstock/publisher/spill"
)

func sorted(t *testing.T, s *spill.Sorter) [][]byte {
	t.Helper()
	var got [][]byte
	for rec, err := range s.Sorted() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, bytes.Clone(rec))
	}
	return got
}

func TestSortsAndDropsDuplicates(t *testing.T) {
	for _, memory := range []int{1, 24, 100, 4096, 1 << 20} { // from a run per record to none
		dir := t.TempDir()
		s := spill.New(dir, 8, memory)
		rnd := rand.New(rand.NewPCG(1, 2))
		want := map[uint64]bool{}
		for range 3000 {
			n := rnd.Uint64N(1000)
			want[n] = true
			if err := s.Add(binary.BigEndian.AppendUint64(nil, n)); err != nil {
				t.Fatal(err)
			}
		}
		got := sorted(t, s)
		if len(got) != len(want) {
			t.Errorf("memory %d: %d records, want %d", memory, len(got), len(want))
		}
		if !slices.IsSortedFunc(got, bytes.Compare) {
			t.Errorf("memory %d: not sorted", memory)
		}
		for _, rec := range got {
			if !want[binary.BigEndian.Uint64(rec)] {
				t.Fatalf("memory %d: %x was never added", memory, rec)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

func TestEmpty(t *testing.T) {
	s := spill.New(t.TempDir(), 8, 0)
	if got := sorted(t, s); len(got) != 0 {
		t.Errorf("%d records of none", len(got))
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestRefusesOtherSizes(t *testing.T) {
	s := spill.New(t.TempDir(), 8, 0)
	defer s.Close()
	if err := s.Add(make([]byte, 7)); err == nil {
		t.Error("a record of another size was taken")
	}
}

func TestMayEndEarly(t *testing.T) {
	s := spill.New(t.TempDir(), 1, 1)
	defer s.Close()
	for i := range byte(9) {
		if err := s.Add([]byte{8 - i}); err != nil {
			t.Fatal(err)
		}
	}
	for rec := range s.Sorted() {
		if rec[0] == 3 {
			return
		}
	}
	t.Error("3 did not come")
}

func TestNoPlaceForRuns(t *testing.T) {
	s := spill.New(t.TempDir()+"/absent", 1, 1)
	defer s.Close()
	err := s.Add([]byte{1})
	if err == nil {
		err = s.Add([]byte{2})
	}
	if err == nil {
		t.Error("a run was written into a directory that is not there")
	}
}

func BenchmarkMillion(b *testing.B) {
	b.ReportAllocs()
	for range b.N {
		s := spill.New(b.TempDir(), 21, 8<<20)
		rnd := rand.New(rand.NewPCG(1, 2))
		var rec [21]byte
		for range 1_000_000 {
			binary.LittleEndian.PutUint64(rec[:], rnd.Uint64())
			if err := s.Add(rec[:]); err != nil {
				b.Fatal(err)
			}
		}
		for _, err := range s.Sorted() {
			if err != nil {
				b.Fatal(err)
			}
		}
		s.Close()
	}
}
