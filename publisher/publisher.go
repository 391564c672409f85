// Package publisher writes a repository: it takes root file systems and images
// and makes each an immutable tree in the next signed revision.
//
// [Publisher.Publish] is the whole pipeline on one screen: source → flatten →
// ingest → catalog → sign → commit. The steps live in packages of their own;
// this one knows their order, which is what makes a crash harmless: everything
// a revision needs is stored and durable before the manifest that names it is
// swapped in, as the very last step (docs/design/publishing.md).
package publisher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/rootstock-cf/rootstock/manifest"
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
	// Workers compress and hash; 0 means one per processor.
	Workers int
	Log     *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Publisher publishes into one repository. It is for one goroutine.
type Publisher struct {
	o    Options
	name string
}

// Open checks that the store holds a repository these keys may publish to.
func Open(ctx context.Context, o Options) (*Publisher, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.TempDir == "" {
		o.TempDir = os.TempDir()
	}
	p := &Publisher{o: o}
	head, err := p.head(ctx)
	if err != nil {
		return nil, err
	}
	p.name = head.manifest.Name
	return p, nil
}

// Name is the repository's fully qualified name.
func (p *Publisher) Name() string { return p.name }

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
}

// Publish makes one source a tree of the next revision and returns when that
// revision is visible. Nothing is visible, and the repository is at its last
// revision, if it returns an error.
func (p *Publisher) Publish(ctx context.Context, src Source) (Result, error) {
	unlock, err := p.o.Store.Lock(ctx, owner())
	if err != nil {
		return Result{}, fmt.Errorf("publish to %s: %w", p.name, err)
	}
	defer unlock() //nolint:errcheck // the lock ends with the process at the latest
	head, err := p.head(ctx)
	if err != nil {
		return Result{}, err
	}
	tx, err := p.begin(ctx, head)
	if err != nil {
		return Result{}, err
	}
	defer tx.Close()

	done, err := p.published(ctx, tx, src)
	if err != nil || done != nil {
		return p.unchanged(head, done, err)
	}
	tree, err := p.take(ctx, head, src)
	if err != nil {
		return Result{}, fmt.Errorf("publish %s: %w", src.Reference(), err)
	}
	placed, err := p.place(ctx, tx, head, src, tree)
	if err != nil {
		return Result{}, fmt.Errorf("publish %s: %w", src.Reference(), err)
	}
	if !placed.changed {
		return p.unchanged(head, &placed.result, nil)
	}
	revision, err := p.commit(ctx, head, tx)
	if err != nil {
		return Result{}, fmt.Errorf("publish %s: %w", src.Reference(), err)
	}
	placed.result.Revision = revision
	return placed.result, nil
}

func (p *Publisher) unchanged(head *head, done *Result, err error) (Result, error) {
	if err != nil {
		return Result{}, err
	}
	done.Unchanged, done.Revision = true, head.manifest.Revision
	return *done, nil
}

// owner names this process for whoever finds the store locked.
func owner() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return fmt.Sprintf("rootstock publish, process %d on %s", os.Getpid(), host)
}
