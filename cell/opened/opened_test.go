package opened_test

import (
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/rootstock-cf/rootstock/cell/opened"
	"github.com/rootstock-cf/rootstock/object"
)

func id(n int) (id object.ContentID) {
	binary.BigEndian.PutUint64(id[:], uint64(n))
	return id
}

func open(t *testing.T, path string, most int) *opened.Notes {
	t.Helper()
	n, err := opened.Open(path, most, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func TestNotesStay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "opened.ids")
	n := open(t, path, 100)
	for range 2 {
		n.Note(id(1))
		n.Note(id(2))
	}
	if !n.Has(id(1)) || n.Has(id(3)) || n.Len() != 2 {
		t.Errorf("%d notes", n.Len())
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n.Note(id(4)) // after the end nothing is noted, and nothing breaks
	if n = open(t, path, 100); !n.Has(id(1)) || !n.Has(id(2)) || n.Len() != 2 {
		t.Errorf("%d notes after a restart", n.Len())
	}
}

// A file that was cut short loses its last note, one that is none of ours all.
func TestDamagedNotes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "opened.ids")
	n := open(t, path, 100)
	n.Note(id(1))
	n.Note(id(2))
	n.Close()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()-5); err != nil {
		t.Fatal(err)
	}
	n = open(t, path, 100)
	n.Note(id(3))
	n.Close()
	if n = open(t, path, 100); !n.Has(id(1)) || n.Has(id(2)) || !n.Has(id(3)) || n.Len() != 2 {
		t.Errorf("%d notes of a file that was cut short", n.Len())
	}
	n.Close()
	if err := os.WriteFile(path, []byte("something else, of another program"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n = open(t, path, 100); n.Len() != 0 {
		t.Errorf("%d notes of nonsense", n.Len())
	}
}

// There is a bound, in memory and on disk; the newest stay.
func TestNotesAreBounded(t *testing.T) {
	const most = 64
	path := filepath.Join(t.TempDir(), "opened.ids")
	n := open(t, path, most)
	for i := range 10 * most {
		n.Note(id(i + 1))
		if n.Len() > most || !n.Has(id(i+1)) {
			t.Fatalf("%d notes after %d", n.Len(), i+1)
		}
	}
	if n.Len() < most/2 || n.Has(id(1)) {
		t.Errorf("%d notes", n.Len())
	}
	n.Close()
	info, err := os.Stat(path)
	if err != nil || info.Size() > 8+32*most {
		t.Errorf("%v, %v", info, err)
	}
	if n = open(t, path, most/4); n.Len() != most/8 || !n.Has(id(10*most)) {
		t.Errorf("%d notes of a smaller bound", n.Len())
	}
}

func TestNotesTogether(t *testing.T) {
	n := open(t, filepath.Join(t.TempDir(), "opened.ids"), 50)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				n.Note(id(g*100 + i))
				n.Has(id(i))
			}
		})
	}
	wg.Wait()
	if n.Len() > 50 {
		t.Errorf("%d notes", n.Len())
	}
}

// What every open of a content costs, when it was noted before.
func BenchmarkNoteAgain(b *testing.B) {
	n, err := opened.Open(filepath.Join(b.TempDir(), "opened.ids"), opened.DefaultMost, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer n.Close()
	n.Note(id(1))
	for b.Loop() {
		n.Note(id(1))
	}
}
