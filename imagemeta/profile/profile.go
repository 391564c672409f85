// Package profile says which contents the containers of a tree opened first, in
// which order and how long after they were made: what a cell that has nothing of
// the tree yet fetches before it is asked.
//
// Documents flow from cells, which record them, to the publisher, which merges
// them into a note of the tree; from the note comes a [Pack] that cells read. A
// profile knows contents and a type of process, never a path, a command line or
// an environment.
package profile

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
)

// Bounds of a document. What is over them is left out when documents are
// merged, and refused when one is read.
const (
	MaxOpens     = 4096 // of one process type
	MaxProcesses = 16
	MaxName      = 64 // bytes of a process type
	MaxDocument  = 8 << 20
	maxMillis    = 1 << 31
)

// version is that of the document's form.
const version = 1

// ErrInvalid reports a document or a pack that this package would not have
// written.
var ErrInvalid = errors.New("invalid startup profile")

// Open is a content that was opened.
type Open struct {
	Content object.ContentID
	Millis  int64 // since the container was made
}

// Profile is what containers of one process type opened, in order.
type Profile struct {
	Process string // such as web or task; "" if unknown
	Opens   []Open
}

// Document is what is known of a tree.
type Document struct {
	Tree     imagemeta.TreeID
	Profiles []Profile // sorted by process
}

// CheckProcess refuses what is no type of process: it becomes part of a public
// document, so nothing that could be a command passes.
func CheckProcess(name string) error {
	if len(name) > MaxName {
		return fmt.Errorf("%w: process type of %d bytes", ErrInvalid, len(name))
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return fmt.Errorf("%w: process type %q", ErrInvalid, name)
		}
	}
	return nil
}

type document struct {
	Version  int       `json:"version"`
	Tree     string    `json:"tree"`
	Profiles []profile `json:"profiles"`
}

type profile struct {
	Process string `json:"process"`
	Opens   []open `json:"opens"`
}

type open struct {
	Content string `json:"content"`
	Millis  int64  `json:"ms"`
}

// MarshalJSON implements json.Marshaler.
func (d Document) MarshalJSON() ([]byte, error) {
	out := document{Version: version, Tree: d.Tree.String(), Profiles: []profile{}}
	for _, p := range d.Profiles {
		one := profile{Process: p.Process, Opens: []open{}}
		for _, o := range p.Opens {
			one.Opens = append(one.Opens, open{o.Content.String(), o.Millis})
		}
		out.Profiles = append(out.Profiles, one)
	}
	return json.Marshal(out)
}

// UnmarshalJSON implements json.Unmarshaler. Its error wraps [ErrInvalid].
func (d *Document) UnmarshalJSON(b []byte) error {
	var in document
	if err := json.Unmarshal(b, &in); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if in.Version != version {
		return fmt.Errorf("%w: version %d, not %d", ErrInvalid, in.Version, version)
	}
	tree, err := object.ParseContentID(in.Tree)
	if err != nil {
		return fmt.Errorf("%w: tree: %w", ErrInvalid, err)
	}
	if len(in.Profiles) > MaxProcesses {
		return fmt.Errorf("%w: %d process types, more than %d", ErrInvalid, len(in.Profiles), MaxProcesses)
	}
	out := Document{Tree: tree}
	for _, p := range in.Profiles {
		one, err := p.check()
		if err != nil {
			return err
		}
		if slices.ContainsFunc(out.Profiles, func(x Profile) bool { return x.Process == one.Process }) {
			return fmt.Errorf("%w: process type %q twice", ErrInvalid, one.Process)
		}
		out.Profiles = append(out.Profiles, one)
	}
	out.sort()
	*d = out
	return nil
}

func (p *profile) check() (Profile, error) {
	if err := CheckProcess(p.Process); err != nil {
		return Profile{}, err
	}
	if len(p.Opens) > MaxOpens {
		return Profile{}, fmt.Errorf("%w: %d contents, more than %d", ErrInvalid, len(p.Opens), MaxOpens)
	}
	one := Profile{Process: p.Process}
	for _, o := range p.Opens {
		id, err := object.ParseContentID(o.Content)
		if err != nil {
			return Profile{}, fmt.Errorf("%w: content: %w", ErrInvalid, err)
		}
		if o.Millis < 0 || o.Millis > maxMillis {
			return Profile{}, fmt.Errorf("%w: %d ms", ErrInvalid, o.Millis)
		}
		one.Opens = append(one.Opens, Open{id, o.Millis})
	}
	return one, nil
}

// Read decodes the documents in r, one after the other, of at most MaxDocument
// bytes in all.
func Read(r io.Reader) (all []Document, err error) {
	in := &io.LimitedReader{R: r, N: MaxDocument + 1}
	for dec := json.NewDecoder(in); ; {
		var d Document
		err := dec.Decode(&d)
		if in.N == 0 {
			return nil, fmt.Errorf("%w: more than %d bytes", ErrInvalid, MaxDocument)
		}
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				err = fmt.Errorf("%w: %w", ErrInvalid, err)
			}
			return nil, err
		}
		all = append(all, d)
	}
}

func (d *Document) sort() {
	slices.SortFunc(d.Profiles, func(a, b Profile) int { return cmp.Compare(a.Process, b.Process) })
	for i := range d.Profiles {
		d.Profiles[i].Opens = ordered(d.Profiles[i].Opens)
	}
}

// ordered sorts opens by time and keeps the first of each content, MaxOpens at
// most.
func ordered(all []Open) []Open {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b Open) int {
		return cmp.Or(cmp.Compare(a.Millis, b.Millis), bytes.Compare(a.Content[:], b.Content[:]))
	})
	seen := make(map[object.ContentID]bool, len(all))
	all = slices.DeleteFunc(all, func(o Open) bool {
		was := seen[o.Content]
		seen[o.Content] = true
		return was
	})
	return all[:min(len(all), MaxOpens)]
}
