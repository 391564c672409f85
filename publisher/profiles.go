package publisher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sync/errgroup"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/imagemeta/profile"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/ingest"
	"github.com/rootstock-cf/rootstock/publisher/revision"
	"github.com/rootstock-cf/rootstock/reference"
)

// Names of what is noted of how a tree's containers start.
const (
	// ProfilesNote is a profile.Document: what has been learned so far.
	ProfilesNote = "profiles.json"
	// PackNote is what cells read: a startup pack made of it.
	PackNote = "startup.pack"
)

// packReads is how many contents are read back at a time to make a pack.
const packReads = 16

// Profiled says what [Publisher.PublishProfiles] came to.
type Profiled struct {
	Trees    []string // ids of the trees of which something new is known
	Unknown  []string // ids of trees that are not published here
	Revision uint64
}

// PublishProfiles merges what cells recorded into what is noted of the trees,
// and makes one revision, or none if nothing is new. Contents of up to packed
// bytes, at most [profile.MaxPacked], go into a tree's startup pack; with 0 it
// only names them. Contents that a tree does not have are left out.
func (p *Publisher) PublishProfiles(ctx context.Context, all []profile.Document, packed int64) (*Profiled, error) {
	byTree := map[imagemeta.TreeID]*profile.Document{}
	var order []imagemeta.TreeID
	for _, d := range all {
		if byTree[d.Tree] == nil {
			byTree[d.Tree] = &profile.Document{Tree: d.Tree}
			order = append(order, d.Tree)
		}
		byTree[d.Tree].Merge(d)
	}
	done := &Profiled{}
	var err error
	done.Revision, err = p.edit(ctx, "startup profiles", func(ctx context.Context, h *head, tx *revision.Tx) (bool, error) {
		v := &view{st: p.o.Store, tx: tx}
		for _, id := range order {
			changed, err := p.addProfile(ctx, h, v, byTree[id], packed)
			if errors.Is(err, fs.ErrNotExist) {
				done.Unknown = append(done.Unknown, id.String())
				continue
			}
			if err != nil {
				return false, fmt.Errorf("tree %s: %w", id, err)
			}
			if changed {
				done.Trees = append(done.Trees, id.String())
			}
		}
		if len(done.Trees) == 0 {
			return false, nil
		}
		return true, putEmpty(ctx, p.o.Store, h.settings)
	})
	if err != nil {
		return nil, fmt.Errorf("startup profiles: %w", err)
	}
	return done, nil
}

// addProfile merges d into the note of its tree. It reports false where that
// says nothing new; its error wraps fs.ErrNotExist where there is no such tree.
func (p *Publisher) addProfile(ctx context.Context, h *head, v *view, d *profile.Document, packed int64) (bool, error) {
	objects, err := v.objects(ctx, d.Tree.String())
	if err != nil {
		return false, err
	}
	was, err := v.profiles(ctx, d.Tree.String())
	if err != nil {
		return false, err
	}
	now := profile.Document{Tree: d.Tree, Profiles: was.Profiles}
	now.Merge(*d)
	now.Keep(func(id object.ContentID) bool {
		s, ok := objects.Lookup(id)
		return ok && s.Size > 0
	})
	if now.Equal(&was) {
		return false, nil
	}
	return true, p.noteProfile(ctx, h, v, &now, objects.Lookup, packed)
}

// profiles is what is noted of a tree's containers; nothing where nothing is.
func (v *view) profiles(ctx context.Context, tree string) (d profile.Document, err error) {
	if d.Tree, err = object.ParseContentID(tree); err != nil {
		return d, err
	}
	b, err := v.file(ctx, ownDir(notesDir, tree)+"/"+ProfilesNote, profile.MaxDocument)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return d, err
	}
	id := d.Tree
	if err := json.Unmarshal(b, &d); err != nil {
		return d, fmt.Errorf("profiles of tree %s: %w", tree, err)
	}
	if d.Tree != id {
		return d, fmt.Errorf("profiles of tree %s: %w: they are of tree %s", tree, profile.ErrInvalid, d.Tree)
	}
	return d, nil
}

// noteProfile stores d and its pack, in the place of what is noted so far.
func (p *Publisher) noteProfile(
	ctx context.Context, h *head, v *view, d *profile.Document, stored revision.Contents, packed int64,
) error {
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	pack, err := p.pack(ctx, d.Order(), stored, packed)
	if err != nil {
		return err
	}
	// In one piece: it is read as one, by a cell that has nothing yet.
	whole := ingest.Chunking{Min: 2 * profile.MaxPack, Avg: 3 * profile.MaxPack, Max: 4 * profile.MaxPack}
	files, err := p.storeFiles(ctx, map[string][]byte{ProfilesNote: text, PackNote: pack}, ingest.Options{
		Compression: h.settings.Compression, Algorithm: h.settings.Algorithm, Workers: p.o.Workers, Chunking: whole,
	})
	if err != nil {
		return err
	}
	dir := ownDir(notesDir, d.Tree.String())
	if err := v.tx.MkdirAll(ctx, dir, catalog.Parent(dir)); err != nil {
		return err
	}
	for _, name := range []string{ProfilesNote, PackNote} {
		at := dir + "/" + name
		if _, ok, err := v.tx.Lookup(ctx, at); err != nil {
			return err
		} else if ok {
			if err := v.tx.Remove(ctx, at); err != nil {
				return err
			}
		}
		if err := v.tx.AddFile(ctx, at, files[name]); err != nil {
			return err
		}
	}
	return nil
}

// pack makes the startup pack of contents in order: those that are small, as
// long as there is room, as they are, all others by name.
func (p *Publisher) pack(ctx context.Context, order []object.ContentID, stored revision.Contents, packed int64) ([]byte, error) {
	rows := make([]profile.Packed, len(order))
	room := int64(profile.MaxPack)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(packReads)
	for i, id := range order {
		rows[i].ID = id
		s, ok := stored(id)
		if !ok || s.Size > min(packed, profile.MaxPacked, room) {
			continue
		}
		room -= s.Size
		g.Go(func() error {
			var b bytes.Buffer
			if err := fetchContent(ctx, p.o.Store, s, &b); err != nil {
				return fmt.Errorf("content %s: %w", id, err)
			}
			if got := object.ContentOf(b.Bytes()); got != id {
				return fmt.Errorf("content %s is stored as %s; rootstock check says what else is wrong", id, got)
			}
			rows[i].Data = b.Bytes()
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return profile.AppendPack(nil, rows)
}

// predecessor is the tree whose place ref takes: what its tag meant so far, or
// the newest version of its name. It is called before ref is there.
func (v *view) predecessor(ctx context.Context, ref reference.Reference) (tree string, err error) {
	for _, r := range []reference.Reference{ref, ref.WithVersion("")} {
		switch t, err := v.resolve(ctx, r); {
		case err == nil:
			return t.Tree, nil
		case !errors.Is(err, ErrNotFound):
			return "", err
		}
	}
	return "", nil
}

// inherit notes of a new tree what is known of its predecessor's containers, by
// path. What cannot be read of the predecessor is no reason not to publish.
func (p *Publisher) inherit(ctx context.Context, h *head, v *view, from string, t *taken) error {
	id := t.id.String()
	if from == "" || from == id {
		return nil
	}
	if _, ok, err := v.tx.Lookup(ctx, ownDir(notesDir, id)+"/"+ProfilesNote); err != nil || ok {
		return err
	}
	was, err := v.profiles(ctx, from)
	if err == nil && len(was.Profiles) == 0 {
		return nil
	}
	var listing []byte
	if err == nil {
		listing, err = v.listing(ctx, from)
	}
	var entries []imagemeta.Entry
	if err == nil {
		entries, _, err = imagemeta.Decode(bytes.NewReader(listing), imagemeta.DefaultLimits)
	}
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		p.o.Log.Warn("startup profile not inherited", "tree", id, "from", from, "error", err)
		return nil
	}
	d := was.Inherit(entries, t.id, t.entries)
	if len(d.Profiles) == 0 {
		return nil
	}
	return p.noteProfile(ctx, h, v, &d, t.in.Stored, profile.MaxPacked)
}
