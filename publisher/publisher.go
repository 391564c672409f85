// Package publisher writes a repository: it takes root file systems and images
// and makes each an immutable tree in the next signed revision.
//
// [Publisher.Publish] is the whole pipeline on one screen: source → flatten →
// ingest → catalog → sign → commit. The steps live in packages of their own;
// this one knows their order, which is what makes a crash harmless: everything
// a revision needs is stored and durable before the manifest that names it is
// swapped in, as the very last step (docs/design/publishing.md).
//
// What else changes a repository (removing a version, moving a channel, tags,
// a rollback, a new signature) goes the same way, through edit.go; what only
// looks at one (List, Diff, Explain, History) reads its newest revision.
package publisher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/manifest/attest"
	"github.com/rootstock-cf/rootstock/publisher/revision"
	"github.com/rootstock-cf/rootstock/publisher/seen"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/store"
)

var (
	// ErrExists reports a version that is published already, with other
	// content.
	ErrExists = errors.New("published already with other content")
	// ErrNotRepository reports a store that holds no repository.
	ErrNotRepository = errors.New("no repository here")
)

// Options say where and as whom to publish.
type Options struct {
	Store store.Store
	// Keys is a repository's release key and certificate, the manifest's
	// signer.
	Keys *manifest.Keys
	// TempDir takes spooled layers and catalogs under work; "" is the
	// system's.
	TempDir string
	// IndexDir keeps what is known of stored contents from one run to the
	// next; "" for no such memory. Deleting it costs time, nothing else.
	IndexDir string
	// Seen remembers what sources held from one run to the next, so that
	// what has not changed is not read again; nil for no such memory.
	Seen *seen.Dir
	// VerifySource reads every source, also one whose digest is that of the
	// tree that is there already, and asks Seen nothing.
	VerifySource bool
	// Attest signs a statement about each tree that is published, also one
	// that is there already and of which the signer has said nothing, whose
	// source is read then; nil for none.
	Attest *attest.Signer
	// Workers compress and hash; 0 means one per processor.
	Workers int
	// AutoTags is how long the tag that each new revision gets by itself
	// stays; 0 makes no such tags, and removes none.
	AutoTags time.Duration
	// CatalogEntries is how large a tree's catalog grows before it is split;
	// 0 means [revision.DefaultMaxWeight].
	CatalogEntries int
	// Progress counts what is read of sources; may be nil.
	Progress *source.Progress
	Log      *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Publisher publishes into one repository. It is for one goroutine.
type Publisher struct{ o Options }

// Open checks that the store holds a repository these keys may publish to.
func Open(ctx context.Context, o Options) (*Publisher, error) {
	p := newPublisher(o)
	if _, err := p.head(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

func newPublisher(o Options) *Publisher {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Publisher{o: o}
}

// Result says what a publish came to.
type Result struct {
	Reference reference.Reference
	Path      string // of the tree in the repository
	Tree      string // tree id, hex
	Source    string // digest of the source
	Revision  uint64 // of the repository that has it
	Unchanged bool   // it was there already: no new revision
	Entries   int64
	Bytes     int64 // plain bytes of regular files, hard links once

	NewObjects int64
	NewBytes   int64    // stored bytes of new objects
	Notes      []string // what of the source the tree or the catalog leaves out
	Attested   string   // id of the key that signed a statement about it, if one did now
	Known      bool     // it was there already under this name: what is new is the statement, if anything
}

// Job is one source and the name its tree gets.
type Job struct {
	// Reference has a version; of an image, a tag or a digest.
	Reference reference.Reference
	Source    *source.Source
}

// Publish makes one source a tree of the next revision and returns when that
// revision is visible. Nothing is visible, and the repository is at its last
// revision, if it returns an error. A version that is there already with the
// same content makes no revision; with other content it is [ErrExists].
func (p *Publisher) Publish(ctx context.Context, j Job) (*Result, error) {
	r, err := p.publish(ctx, j)
	if err != nil {
		return nil, fmt.Errorf("publish %s: %w", j.Reference, err)
	}
	return r, nil
}

func (p *Publisher) publish(ctx context.Context, j Job) (*Result, error) {
	if err := j.Reference.Validate(); err != nil {
		return nil, err
	}
	if j.Reference.Version == "" {
		return nil, errNoVersion
	}
	var r *Result
	var changed bool
	rev, err := p.edit(ctx, "publish "+j.Reference.String(), func(ctx context.Context, h *head, tx *revision.Tx) (_ bool, err error) {
		r, changed, err = p.stage(ctx, h, tx, j)
		return changed, err
	})
	if err != nil {
		return nil, err
	}
	r.Revision, r.Unchanged = rev, !changed
	return r, nil
}

// is reports whether r was made of the job's source: the digest of an image's
// configuration, which names its layers, is its path, and a file's digest is
// known without reading it if it was read before.
func (j Job) is(r *Result) bool {
	return j.Reference.Kind == reference.Images || j.Source.Digest != "" && j.Source.Digest == r.Source
}

// stage puts the job's tree into tx. Changed is false where it is there
// already.
func (p *Publisher) stage(ctx context.Context, h *head, tx *revision.Tx, j Job) (r *Result, changed bool, err error) {
	path, _ := j.treePath()
	if r, err = p.found(ctx, tx, j, path); err != nil {
		return nil, false, err
	}
	attested, err := p.attested(ctx, tx, j, r)
	if err != nil {
		return nil, false, err
	}
	if r == nil || p.o.VerifySource || !j.is(r) || !attested {
		t, err := p.take(ctx, h, j)
		if err != nil {
			return nil, false, err
		}
		if r != nil {
			err = mustMatch(r, t.id)
		} else {
			r, err = p.place(ctx, tx, h, j, path, t)
			changed, err = true, halfDone(err)
		}
		if err != nil {
			return nil, false, err
		}
		n := t.in.Counters()
		if !changed && n.ObjectsNew > 0 { // what was lost is back, and no commit will make it last
			if err := p.o.Store.Sync(ctx); err != nil {
				return nil, false, err
			}
		}
		r.NewObjects, r.NewBytes = n.ObjectsNew, n.BytesStored
	}
	if j.Reference.Kind == reference.Images {
		moved, err := p.link(ctx, tx, j.Reference, path)
		if err != nil {
			return nil, false, halfDone(err)
		}
		changed = changed || moved
	}
	r.Known = !changed
	if !attested {
		if err := p.attest(ctx, h, tx, j, r); err != nil {
			return nil, false, halfDone(err)
		}
		changed = true
	}
	return r, changed, nil
}
