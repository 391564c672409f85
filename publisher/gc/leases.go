package gc

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rootstock-cf/rootstock/object"
)

// ErrLease reports a list of leases that cannot be believed.
var ErrLease = errors.New("unusable list of leases")

// Bounds on a list of leases: bytes of a line, and lines.
const (
	maxLeaseLine = 64 << 10
	maxLeases    = 4 << 20
)

// Leases are what containers run, as cells report it.
type Leases struct {
	Catalogs map[object.Hash]bool      // of trees that a tree tier pins
	Trees    map[object.ContentID]bool // tree ids
	// Taken is when the oldest list was made. What containers began to use
	// later is on no list, so revisions that were the newest since then
	// stay.
	Taken time.Time
}

// NewLeases returns leases of nothing, as of taken.
func NewLeases(taken time.Time) *Leases {
	return &Leases{Catalogs: map[object.Hash]bool{}, Trees: map[object.ContentID]bool{}, Taken: taken}
}

// lease is a line. What else it holds is for people.
type lease struct {
	Repository string `json:"repository"` // another's line is passed over
	Catalog    string `json:"catalog"`
	Tree       string `json:"tree"`
}

// Read adds a list to l: JSON lines, each with a "catalog" hash or a "tree" id
// or both, and optionally the "repository" it is about. taken is when the list
// was made. Whatever is not such a line, and a list that does not end with a
// newline, is [ErrLease]: deleting what half a list leaves out is not an
// option.
func (l *Leases) Read(r io.Reader, repository string, taken time.Time) error {
	in := bufio.NewReaderSize(r, maxLeaseLine)
	for n := 1; ; n++ {
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(bytes.TrimSpace(line)) == 0:
			if taken.Before(l.Taken) {
				l.Taken = taken
			}
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: line %d is cut short: get the list again", ErrLease, n)
		case errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("%w: line %d has more than %d bytes", ErrLease, n, maxLeaseLine)
		case err != nil:
			return err
		case n > maxLeases:
			return fmt.Errorf("%w: more than %d lines", ErrLease, maxLeases)
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if err := l.add(line, repository); err != nil {
			return fmt.Errorf("%w: line %d: %w", ErrLease, n, err)
		}
	}
}

func (l *Leases) add(line []byte, repository string) error {
	var e lease
	if err := json.Unmarshal(line, &e); err != nil {
		return err
	}
	if e.Repository != "" && e.Repository != repository {
		return nil
	}
	if e.Catalog == "" && e.Tree == "" {
		return errors.New(`neither "catalog" nor "tree"`)
	}
	if e.Catalog != "" {
		h, err := object.ParseHash(e.Catalog)
		if err != nil {
			return fmt.Errorf("catalog: %w", err)
		}
		l.Catalogs[h] = true
	}
	if e.Tree != "" {
		id, err := object.ParseContentID(e.Tree)
		if err != nil {
			return fmt.Errorf("tree: %w", err)
		}
		l.Trees[id] = true
	}
	return nil
}
