package publisher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/manifest/attest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/revision"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/reference"
)

// ErrUnsigned reports that a signer has said nothing of a tree.
var ErrUnsigned = errors.New("nothing signed")

// bundleSuffix ends the name of a file of one signer's statements, as in-toto
// has it.
const bundleSuffix = ".intoto.jsonl"

// statementsDir holds what is signed about a tree, a file per signer.
func statementsDir(tree string) string { return ownDir(notesDir, tree) + "/attestations" }

// StatementOf is what can be said of a tree once it was derived from src, which
// has been read to its end.
func StatementOf(ref reference.Reference, src *source.Source, tree object.ContentID, now time.Time) attest.Statement {
	s := attest.Source{
		Kind: src.Kind, Name: src.Spelled, Digest: src.Digest, ConfigDigest: src.ConfigDigest, Platform: platform(src.Config),
	}
	for _, l := range src.Layers {
		s.DiffIDs = append(s.DiffIDs, l.DiffID())
	}
	return attest.Statement{Name: ref.String(), Tree: tree, Source: s, Derived: now}
}

// platform is what an image's configuration says it is for, or "".
func platform(config []byte) string {
	var c struct{ OS, Architecture, Variant string }
	if json.Unmarshal(config, &c) != nil || c.OS == "" || c.Architecture == "" {
		return ""
	}
	return strings.TrimSuffix(c.OS+"/"+c.Architecture+"/"+c.Variant, "/")
}

// attested reports whether there is nothing for this publisher to sign: the
// tree r of j, nil where it is not there yet, has its statement, or none is
// wanted.
func (p *Publisher) attested(ctx context.Context, tx *revision.Tx, j Job, r *Result) (bool, error) {
	if p.o.Attest == nil || r == nil {
		return p.o.Attest == nil, nil
	}
	switch _, err := (&view{st: p.o.Store, tx: tx}).statement(ctx, j.Reference, r.Tree, p.o.Attest.Key); {
	case err == nil:
		return true, nil
	case errors.Is(err, ErrUnsigned), errors.Is(err, attest.ErrOther), errors.Is(err, attest.ErrMalformed), errors.Is(err, attest.ErrSignature):
		return false, nil
	default: // it cannot be read: not the same as nothing said
		return false, err
	}
}

// attest signs and files a statement about r, which was derived in this run.
func (p *Publisher) attest(ctx context.Context, h *head, tx *revision.Tx, j Job, r *Result) error {
	id, err := object.ParseContentID(r.Tree)
	if err != nil {
		return err
	}
	line, err := p.o.Attest.Sign(StatementOf(j.Reference, j.Source, id, p.o.Now()))
	if err != nil {
		return err
	}
	r.Attested = p.o.Attest.ID
	_, err = p.fileStatement(ctx, h, &view{st: p.o.Store, tx: tx}, r.Tree, line, p.o.Attest.Key)
	return err
}

// fileStatement puts an envelope into its signer's file, unless it is there.
func (p *Publisher) fileStatement(ctx context.Context, h *head, v *view, tree string, line []byte, key attest.Key) (changed bool, err error) {
	was, err := v.bundle(ctx, tree, key)
	if err != nil && !errors.Is(err, ErrUnsigned) {
		return false, err
	}
	b, err := was.With(line, key)
	if err != nil || bytes.Equal(b, was) {
		return false, err
	}
	files, err := p.storeFiles(ctx, map[string][]byte{key.ID: b}, p.ingestOptions(h))
	if err != nil {
		return false, err
	}
	dir := statementsDir(tree)
	if err := v.tx.MkdirAll(ctx, dir, catalog.Parent(ownDir(notesDir, tree))); err != nil {
		return false, err
	}
	at := dir + "/" + key.ID + bundleSuffix
	if err := v.tx.Remove(ctx, at); err != nil {
		return false, err
	}
	return true, v.tx.AddFile(ctx, at, files[key.ID])
}

// bundle reads what a signer says of a tree; an error that wraps [ErrUnsigned]
// if that is nothing.
func (v *view) bundle(ctx context.Context, tree string, key attest.Key) (attest.Bundle, error) {
	at := statementsDir(tree) + "/" + key.ID + bundleSuffix
	if _, ok, err := v.tx.Lookup(ctx, at); err != nil {
		return nil, err
	} else if !ok {
		return nil, fmt.Errorf("%w by key %s about tree %s", ErrUnsigned, key.ID, tree)
	}
	return v.file(ctx, at, attest.MaxBundle)
}

// statement finds what a signer says of a tree under a name.
func (v *view) statement(ctx context.Context, ref reference.Reference, tree string, key attest.Key) (*attest.Statement, error) {
	id, err := object.ParseContentID(tree)
	if err != nil {
		return nil, err
	}
	b, err := v.bundle(ctx, tree, key)
	if err != nil {
		return nil, err
	}
	s, err := b.Find(ref.String(), key)
	if err != nil {
		return nil, err
	}
	return s, s.About(ref.String(), id)
}

// Attested says what [Publisher.AddStatement] came to.
type Attested struct {
	Reference reference.Reference
	Tree      string // tree id, hex
	Signer    string // id of the key
	Revision  uint64
}

// AddStatement files an envelope that key signed about the tree that ref
// names, as a revision in which nothing else changes. It refuses one about
// another tree.
func (p *Publisher) AddStatement(ctx context.Context, ref reference.Reference, line []byte, key attest.Key) (*Attested, error) {
	a := &Attested{Signer: key.ID}
	var err error
	a.Revision, err = p.edit(ctx, "attest "+ref.String(), func(ctx context.Context, h *head, tx *revision.Tx) (bool, error) {
		v := &view{st: p.o.Store, tx: tx}
		t, err := v.resolve(ctx, ref)
		if err != nil {
			return false, err
		}
		a.Reference, a.Tree = t.Reference, t.Tree
		id, err := object.ParseContentID(t.Tree)
		if err != nil {
			return false, err
		}
		s, err := attest.Open(line, key)
		if err == nil {
			err = s.About(t.Reference.String(), id)
		}
		if err != nil {
			return false, fmt.Errorf("%s is tree %s: %w", t.Reference, t.Tree, err)
		}
		if err := putEmpty(ctx, p.o.Store, h.settings); err != nil {
			return false, err
		}
		return p.fileStatement(ctx, h, v, t.Tree, line, key)
	})
	if err != nil {
		return nil, fmt.Errorf("attest %s: %w", ref, err)
	}
	return a, nil
}

// Statement returns what a signer says of the tree t under its name. An error
// that wraps [ErrUnsigned] says that there is nothing, any other of package
// attest's why what there is does not count.
func (r *Reader) Statement(ctx context.Context, t Listed, key attest.Key) (*attest.Statement, error) {
	return r.v.statement(ctx, t.Reference, t.Tree, key)
}

// Signers returns the ids of the keys under which something is filed about a
// tree, believing the names of the files.
func (r *Reader) Signers(ctx context.Context, t Listed) ([]string, error) {
	dir := statementsDir(t.Tree)
	if e, ok, err := r.v.tx.Lookup(ctx, dir); err != nil || !ok || !e.IsDir() {
		return nil, err
	}
	rows, err := r.v.tx.List(ctx, dir)
	if err != nil {
		return nil, err
	}
	var ids []string
	for i := range rows {
		if id, ok := strings.CutSuffix(rows[i].Name, bundleSuffix); ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
