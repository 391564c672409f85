// Package droplets keeps what droplets consist of: a packages document for each
// digest, in a directory of the daemon. Droplets are read once on a cell,
// whatever the number of their containers: by the program that fetches them, or
// from a container's write layer. What is kept is an answer that may be lost; it
// is never needed for a container to run.
package droplets

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/renameio/v2"

	"github.com/rootstock-cf/rootstock/inventory"
	"github.com/rootstock-cf/rootstock/inventory/droplet"
)

const (
	// MaxDocument bounds a document, in bytes.
	MaxDocument = 32 << 20
	// most bounds the documents that are kept, and mostBytes their sizes.
	most      = 1024
	mostBytes = 512 << 20

	suffix = ".json"
)

// Store is a directory of documents.
type Store struct {
	dir string
	mu  sync.Mutex
}

// Open makes the directory if need be.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("what droplets consist of: %w", err)
	}
	return &Store{dir: dir}, nil
}

// Path is where the document of a droplet lies, or would; known says that it is
// there. An error wraps [inventory.ErrInvalid] for what is no digest.
func (s *Store) Path(digest string) (file string, known bool, err error) {
	if err := droplet.Check(digest); err != nil {
		return "", false, err
	}
	file = filepath.Join(s.dir, strings.Replace(digest, ":", "-", 1)+suffix)
	_, err = os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return file, false, nil
	}
	return file, err == nil, err
}

// Read returns a document, which is one of that droplet. An error wraps
// fs.ErrNotExist if there is none.
func (s *Store) Read(digest string) ([]byte, error) {
	file, _, err := s.Path(digest)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(file) // #nosec G304 -- made of a checked digest
	if err != nil {
		return nil, fmt.Errorf("droplet %s: %w", digest, err)
	}
	defer f.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(io.LimitReader(f, MaxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("droplet %s: %w", digest, err)
	}
	if len(b) > MaxDocument {
		return nil, fmt.Errorf("droplet %s: %w: more than %d bytes", digest, inventory.ErrInvalid, MaxDocument)
	}
	v, err := inventory.Decode(bytes.NewReader(b))
	if err == nil && v.Tree != digest {
		err = fmt.Errorf("%w: it speaks of %.100q", inventory.ErrInvalid, v.Tree)
	}
	if err != nil {
		return nil, fmt.Errorf("droplet %s: %w", digest, err)
	}
	return b, nil
}

// Write puts an inventory at the path that [Store.Path] gave. One that is too
// large becomes one that says that.
func Write(file string, v inventory.Inventory) error {
	var b bytes.Buffer
	err := inventory.Encode(&b, v)
	if err == nil && b.Len() > MaxDocument {
		b.Reset()
		err = inventory.Encode(&b, inventory.Inventory{Tree: v.Tree, NotRead: []inventory.Gap{{
			Ecosystem: inventory.Generic, Reason: fmt.Sprintf("it names so many packages that the list would have more than %d bytes", MaxDocument),
		}}})
	}
	if err == nil {
		err = renameio.WriteFile(file, b.Bytes(), 0o600)
	}
	if err != nil {
		return fmt.Errorf("droplet %s: %w", v.Tree, err)
	}
	return nil
}

// Trim removes the oldest documents of droplets that are not used, so that those
// that are kept are within bounds. used may go beyond them.
func (s *Store) Trim(used map[string]bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("what droplets consist of: %w", err)
	}
	var all []fs.FileInfo
	var count, size int64
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue // it went away
		}
		count, size = count+1, size+info.Size()
		digest := strings.Replace(strings.TrimSuffix(e.Name(), suffix), "-", ":", 1)
		if !used[digest] {
			all = append(all, info)
		}
	}
	slices.SortFunc(all, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	var failed []error
	for _, info := range all {
		if count <= most && size <= mostBytes {
			break
		}
		failed = append(failed, os.Remove(filepath.Join(s.dir, info.Name())))
		count, size = count-1, size-info.Size()
	}
	return errors.Join(failed...)
}
