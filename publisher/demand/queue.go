// Package demand publishes images that somebody asks for: cells that looked for
// one in vain (docs/design/wishes.md), or whoever has the token.
//
// In go names of images, by HTTP; they wait in a queue, each once, until the
// publisher has time, and all that wait together become one revision. The queue
// is a file, so that what was noted is not lost with the process; what becomes of
// an image is told by its id until newer ones have taken its place.
package demand

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/reference"
)

// Bounds, if [Options] say nothing else.
const (
	DefaultEvery = 5 * time.Second
	DefaultLimit = 256
	// DefaultRemember is how many images that are done with are told of.
	DefaultRemember = 1024

	together = 64               // images in one revision
	again    = 10 * time.Minute // until one that failed is tried anew
)

// States of an image.
const (
	Waiting   = "waiting"
	Running   = "running"
	Published = "published"
	Failed    = "failed"
)

var (
	// ErrFull reports a queue that takes no more for now.
	ErrFull = errors.New("too many images wait already")
	// ErrDenied reports an image that is not to be published on demand.
	ErrDenied = errors.New("not published on demand")
	// ErrFailed reports an image that could not be published a short while
	// ago.
	ErrFailed = errors.New("failed a short while ago")
)

// Applier is the part of a publisher.Publisher that is needed here.
type Applier interface {
	Apply(ctx context.Context, what string, steps []publisher.Step, done func(i int, o publisher.Outcome)) ([]publisher.Outcome, uint64, error)
}

// Options are those of a Queue.
type Options struct {
	// File keeps the queue. Its directory must exist.
	File string
	// Allowed are the images that may be asked for.
	Allowed Allowed
	// Open begins a run of publishing.
	Open func(ctx context.Context) (Applier, error)
	// Published tells which tree has an image's name in the newest revision;
	// an error that wraps publisher.ErrNotFound if none has.
	Published func(ctx context.Context, ref reference.Reference) (publisher.Listed, error)
	// Source says how images are fetched, and bounds them.
	Source source.Options
	// Every is the least time between two revisions; 0 is [DefaultEvery].
	Every time.Duration
	// Limit bounds the images that wait; 0 is [DefaultLimit].
	Limit int
	// Remember bounds those that are done with; 0 is [DefaultRemember].
	Remember int
	Log      *slog.Logger
	Now      func() time.Time // nil is time.Now
}

// Entry is what is known of an image that was asked for.
type Entry struct {
	ID    string `json:"id"`
	Image string `json:"image"`
	State string `json:"state"`
	// Asked is when it was last noted, Finished when it was published or
	// failed.
	Asked    time.Time  `json:"asked"`
	Finished *time.Time `json:"finished,omitempty"`
	Tree     string     `json:"tree,omitempty"`
	Path     string     `json:"path,omitempty"`
	Revision uint64     `json:"revision,omitempty"`
	Error    string     `json:"error,omitempty"`
}

// Queue is what waits. Its methods may be called concurrently.
type Queue struct {
	o    Options
	wake chan struct{}

	mu      sync.Mutex
	entries map[string]*Entry
	order   []string // ids, those asked for last at the end
}

// New reads the queue from its file; what was being published when the process
// ended waits again.
func New(o Options) (*Queue, error) {
	if len(o.Allowed) == 0 {
		return nil, errors.New("no images are allowed to be published on demand: name registries")
	}
	if o.Every <= 0 {
		o.Every = DefaultEvery
	}
	if o.Limit <= 0 {
		o.Limit = DefaultLimit
	}
	if o.Remember <= 0 {
		o.Remember = DefaultRemember
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	q := &Queue{o: o, wake: make(chan struct{}, 1), entries: map[string]*Entry{}}
	if err := q.load(); err != nil {
		return nil, err
	}
	q.signal()
	return q, nil
}

func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// idOf is an image's id: the same image has the same.
func idOf(image string) string {
	sum := sha256.Sum256([]byte(image))
	return hex.EncodeToString(sum[:10])
}

// Ask notes an image, REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@DIGEST. It
// is not noted twice; one that is published already is not noted unless anew is
// set, since its tag may have moved. When Ask has returned without an error, the
// queue's file has the image.
func (q *Queue) Ask(ctx context.Context, image string, anew bool) (Entry, error) {
	ref, err := Parse(image)
	if err != nil {
		return Entry{}, err
	}
	if !q.o.Allowed.covers(ref.Name) {
		return Entry{}, fmt.Errorf("%s is %w: its registry or repository is not on the publisher's list", image, ErrDenied)
	}
	id := idOf(image)
	if e, ok := q.waits(id); ok {
		return e, nil
	}
	if !anew {
		t, err := q.o.Published(ctx, ref)
		if err == nil {
			return q.known(id, image, t), nil
		}
		if !errors.Is(err, publisher.ErrNotFound) {
			return Entry{}, err
		}
	}
	return q.note(id, image)
}

func (q *Queue) waits(id string) (Entry, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.entries[id]; e != nil && (e.State == Waiting || e.State == Running) {
		return *e, true
	}
	return Entry{}, false
}

// known is the entry of an image that is published.
func (q *Queue) known(id, image string, t publisher.Listed) Entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e := q.entries[id]; e != nil && e.State == Published {
		return *e
	}
	when := t.Published
	return Entry{ID: id, Image: image, State: Published, Asked: q.o.Now().UTC(), Finished: &when, Tree: t.Tree, Path: t.Path}
}

// note puts an image at the end of the queue.
func (q *Queue) note(id, image string) (Entry, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.o.Now().UTC()
	old := q.entries[id]
	if old != nil && (old.State == Waiting || old.State == Running) {
		return *old, nil
	}
	if old != nil && old.State == Failed && old.Finished != nil && now.Before(old.Finished.Add(again)) {
		return *old, fmt.Errorf("%s %w: %s; it is tried again when asked for after %s", image, ErrFailed, old.Error, old.Finished.Add(again).Format(time.RFC3339))
	}
	waiting := 0
	for _, e := range q.entries {
		if e.State == Waiting || e.State == Running {
			waiting++
		}
	}
	if waiting >= q.o.Limit {
		return Entry{}, fmt.Errorf("%w (%d); ask again later", ErrFull, waiting)
	}
	e := &Entry{ID: id, Image: image, State: Waiting, Asked: now}
	order := slices.DeleteFunc(slices.Clone(q.order), func(o string) bool { return o == id })
	before := q.order
	q.entries[id], q.order = e, append(order, id)
	q.forget()
	if err := q.save(); err != nil {
		q.order = before
		if old != nil {
			q.entries[id] = old
		} else {
			delete(q.entries, id)
		}
		return Entry{}, err
	}
	q.signal()
	return *e, nil
}

// forget drops those that were done with first, beyond the bound.
func (q *Queue) forget() {
	for i := 0; len(q.order) > q.o.Remember+q.o.Limit && i < len(q.order); {
		if e := q.entries[q.order[i]]; e.State == Waiting || e.State == Running {
			i++
			continue
		}
		delete(q.entries, q.order[i])
		q.order = slices.Delete(q.order, i, i+1)
	}
}

// Status tells of an image by its id.
func (q *Queue) Status(id string) (Entry, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.entries[id]
	if e == nil {
		return Entry{}, false
	}
	return *e, true
}

// All lists what is known, those asked for last at the end.
func (q *Queue) All() []Entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make([]Entry, 0, len(q.order))
	for _, id := range q.order {
		all = append(all, *q.entries[id])
	}
	return all
}
