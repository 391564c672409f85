// Package rollout is how a channel moves to another version ring by ring. The
// state lies in the channel's record, <channel>.json of the signed tree, as its
// member "rollout"; the channel's link goes on leading to the version before,
// for cells outside of the rings and for all who do not know of rings.
//
// A cell decides by itself whether it is in a ring that is open: by its labels,
// and by a hash of its id. The same state and the same cell give the same answer
// everywhere, so whoever knows the cells can tell what each of them does, and a
// cell that is in stays in while more rings open.
package rollout

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Field is the member of a channel's record that holds the state.
const Field = "rollout"

// Format is the version of the state that this package reads and writes. It
// changes if the meaning of a member does.
const Format = 1

// MaxRecord bounds a channel's record, in bytes. MaxRings and MaxLabels bound
// what a state has, MaxText each of its texts, in bytes.
const (
	MaxRecord = 1 << 20
	MaxRings  = 16
	MaxLabels = 16
	MaxText   = 256
)

// Whole is the share of all cells: shares are counted in 1/100 of a percent.
const Whole = 10_000

// ErrInvalid reports a state, a ring or a condition that is none.
var ErrInvalid = errors.New("invalid rollout")

// State is a rollout under way.
type State struct {
	Format  int    `json:"format"`
	Version string `json:"version"` // that the rings get
	Tree    string `json:"tree"`    // its id, hex
	// Target is where the version's tree lies, as the channel's link would
	// lead there.
	Target string `json:"target"`
	// Seed makes each rollout begin with other cells.
	Seed  string    `json:"seed"`
	Began time.Time `json:"began"`
	Rings []Ring    `json:"rings"`
	// Open is how many of Rings get the version, from the first, one at
	// least.
	Open   int       `json:"open"`
	Opened time.Time `json:"opened"` // when the last of them was opened
	// Soak is how long a ring stays before the next may be opened, in seconds.
	Soak   int64       `json:"soak_seconds,omitempty"`
	HaltOn []Condition `json:"halt_on,omitempty"`
	// Halted is why no further ring may be opened; nil if one may.
	Halted *Halt `json:"halted,omitempty"`
}

// Ring is a part of the cells.
type Ring struct {
	Name string `json:"name"`
	// Share of the cells that have the labels, in 1/100 of a percent.
	Share  int               `json:"share"`
	Labels map[string]string `json:"labels,omitempty"`
}

// Halt says when and why a rollout was stopped.
type Halt struct {
	When   time.Time `json:"when"`
	Reason string    `json:"reason"`
}

// Cell is what a cell decides by.
type Cell struct {
	ID     string
	Labels map[string]string
}

// Parse reads the state of a channel's record; nil if no rollout is under way.
// Its errors wrap [ErrInvalid], also for a format of later releases: whoever
// gets one follows the channel's link.
func Parse(record []byte) (*State, error) {
	if len(record) > MaxRecord {
		return nil, fmt.Errorf("%w: the record has %d bytes, more than %d", ErrInvalid, len(record), MaxRecord)
	}
	var doc struct {
		Rollout *State `json:"rollout"`
	}
	if err := json.Unmarshal(record, &doc); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if doc.Rollout == nil {
		return nil, nil
	}
	return doc.Rollout, doc.Rollout.Check()
}

// Check reports, as [ErrInvalid], what is wrong with s.
func (s *State) Check() error {
	switch {
	case s.Format != Format:
		return fmt.Errorf("%w: format %d, this program reads %d", ErrInvalid, s.Format, Format)
	case s.Version == "" || s.Target == "":
		return fmt.Errorf("%w: it does not say where it leads", ErrInvalid)
	case len(s.Rings) == 0 || len(s.Rings) > MaxRings:
		return fmt.Errorf("%w: %d rings; 1 to %d are allowed", ErrInvalid, len(s.Rings), MaxRings)
	case s.Open < 1 || s.Open > len(s.Rings):
		return fmt.Errorf("%w: %d of %d rings are open", ErrInvalid, s.Open, len(s.Rings))
	case s.Soak < 0:
		return fmt.Errorf("%w: negative time to soak", ErrInvalid)
	case len(s.HaltOn) > MaxRings:
		return fmt.Errorf("%w: %d conditions", ErrInvalid, len(s.HaltOn))
	}
	for _, text := range []string{s.Version, s.Tree, s.Seed} {
		if len(text) > MaxText {
			return fmt.Errorf("%w: a text has %d bytes, more than %d", ErrInvalid, len(text), MaxText)
		}
	}
	if len(s.Target) > 16*MaxText {
		return fmt.Errorf("%w: its target has %d bytes", ErrInvalid, len(s.Target))
	}
	seen := map[string]bool{}
	for _, r := range s.Rings {
		if err := r.check(); err != nil {
			return err
		}
		if seen[r.Name] {
			return fmt.Errorf("%w: two rings are called %s", ErrInvalid, r.Name)
		}
		seen[r.Name] = true
	}
	for _, c := range s.HaltOn {
		if err := c.check(); err != nil {
			return err
		}
	}
	return nil
}

// In returns the first open ring that the cell is in; ok is false if it is in
// none and follows the channel's link.
func (s *State) In(c Cell) (ring string, ok bool) { return s.inFirst(s.Open, c) }

// InAfter is In after the next ring is opened. With none left, all cells are in.
func (s *State) InAfter(c Cell) bool {
	if s.Open >= len(s.Rings) {
		return true
	}
	_, ok := s.inFirst(s.Open+1, c)
	return ok
}

func (s *State) inFirst(n int, c Cell) (string, bool) {
	at := s.point(c.ID)
	for _, r := range s.Rings[:n] {
		if at < uint64(r.Share) && c.has(r.Labels) { // #nosec G115 -- checked to be no less than 0
			return r.Name, true
		}
	}
	return "", false
}

// point is where a cell lies between 0 and Whole.
func (s *State) point(id string) uint64 {
	sum := sha256.Sum256([]byte("rootstock rollout\x00" + s.Seed + "\x00" + id))
	return binary.BigEndian.Uint64(sum[:8]) % Whole
}

func (c Cell) has(labels map[string]string) bool {
	for k, v := range labels {
		if got, ok := c.Labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// Due is when the next ring may be opened.
func (s *State) Due() time.Time { return s.Opened.Add(time.Duration(s.Soak) * time.Second) }
