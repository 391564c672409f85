// Package opened remembers which contents were ever opened on a cell, as far as
// its daemon saw that: the kernel asks the daemon for a content once and then
// has it in memory or on disk, so a content that is not noted here may have been
// opened all the same. The answers are therefore "opened" and "unknown".
//
// Content ids flow in as files are served; questions come from audits. The notes
// are a file of ids, only ever appended to. They are bounded, and losing some is
// never wrong: those contents are unknown again.
package opened

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"

	"github.com/google/renameio/v2"

	"github.com/rootstock-cf/rootstock/object"
)

// magic begins the file; its last byte is the version.
const magic = "RSOPEN\x00\x01"

// DefaultMost is how many contents are remembered: 8 MiB on disk.
const DefaultMost = 1 << 18

// Notes are what is remembered. All methods may be called concurrently.
type Notes struct {
	path string
	most int
	log  *slog.Logger

	mu   sync.RWMutex
	seen map[object.ContentID]struct{}
	file *os.File // nil once it could not be written
}

// Open reads the notes at path, of which the newest half of most are kept if
// there are as many. The caller closes them.
func Open(path string, most int, log *slog.Logger) (*Notes, error) {
	n := &Notes{path: path, most: most, log: log}
	if err := n.load(); err != nil {
		return nil, fmt.Errorf("notes of opened contents: %w", err)
	}
	return n, nil
}

func (n *Notes) load() error {
	ids, whole, err := read(n.path, n.most)
	if err != nil {
		return err
	}
	if len(ids) >= n.most {
		ids, whole = ids[len(ids)-n.most/2:], false
	}
	if !whole {
		raw := make([]byte, 0, len(magic)+len(ids)*len(object.ContentID{}))
		raw = append(raw, magic...)
		for i := range ids {
			raw = append(raw, ids[i][:]...)
		}
		if err := renameio.WriteFile(n.path, raw, 0o600); err != nil {
			return err
		}
	}
	n.seen = make(map[object.ContentID]struct{}, len(ids))
	for _, id := range ids {
		n.seen[id] = struct{}{}
	}
	n.file, err = os.OpenFile(n.path, os.O_WRONLY|os.O_APPEND, 0) // #nosec G304 -- our own
	return err
}

// read returns the ids in a file, of one that is too long the newest, and
// whether the file is just that. What is not one of ours counts as empty.
func read(path string, most int) (ids []object.ContentID, whole bool, err error) {
	f, err := os.Open(path) // #nosec G304 -- our own
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close() //nolint:errcheck // read only
	info, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(f, head); err != nil || string(head) != magic {
		return nil, false, nil
	}
	const size = int64(len(object.ContentID{}))
	n := (info.Size() - int64(len(magic))) / size
	skip := max(0, n-int64(most))
	raw := make([]byte, (n-skip)*size)
	if _, err := f.ReadAt(raw, int64(len(magic))+skip*size); err != nil {
		return nil, false, err
	}
	for ; len(raw) > 0; raw = raw[size:] {
		ids = append(ids, object.ContentID(raw[:size]))
	}
	return ids, skip == 0 && info.Size() == int64(len(magic))+n*size, nil
}

// Close ends the noting.
func (n *Notes) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.file == nil {
		return nil
	}
	err := n.file.Close()
	n.file = nil
	return err
}

// Note remembers that a content was opened. That is not made durable.
func (n *Notes) Note(id object.ContentID) {
	if n.Has(id) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.seen[id]; ok || n.file == nil {
		return
	}
	if len(n.seen) >= n.most {
		n.halve()
		if n.file == nil {
			return
		}
	}
	if _, err := n.file.Write(id[:]); err != nil {
		n.give(err)
		return
	}
	n.seen[id] = struct{}{}
}

// halve forgets the older half. Callers hold mu.
func (n *Notes) halve() {
	n.file.Close() //nolint:errcheck // read back from the path
	n.file = nil
	if err := n.load(); err != nil {
		n.give(err)
	}
}

// give up: what is known so far stays known. Callers hold mu.
func (n *Notes) give(err error) {
	n.log.Warn("opened contents are no longer noted; audits will say unknown", "file", n.path, "error", err)
	if n.file != nil {
		n.file.Close() //nolint:errcheck // it failed already
		n.file = nil
	}
}

// Has reports whether a content was opened; false means unknown.
func (n *Notes) Has(id object.ContentID) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	_, ok := n.seen[id]
	return ok
}

// Len is how many contents are remembered.
func (n *Notes) Len() int {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return len(n.seen)
}
