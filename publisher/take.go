package publisher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/inventory/packages"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/flatten"
	"github.com/rootstock-cf/rootstock/publisher/ingest"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/reference"
)

// taken is a source whose contents are stored: its listing, and the files of
// our own that go with it.
type taken struct {
	tree    *flatten.Tree
	entries []imagemeta.Entry
	id      imagemeta.TreeID
	bytes   int64 // of regular files, hard links once
	files   map[string]imagemeta.Stored
	in      *ingest.Ingester
}

// Names of the files beside a tree (docs/design/tree.md) and of an image's
// description.
const (
	listingFile = "listing"
	objectsFile = "objects"
	imageFile   = "image.json"
)

// take reads the source and stores its contents, listing and objects table.
func (p *Publisher) take(ctx context.Context, h *head, j Job) (_ *taken, err error) {
	o := p.ingestOptions(h)
	if o.Index, err = p.index(h, o); err != nil {
		return nil, err
	}
	if o.Index != nil {
		defer func() { err = errors.Join(err, o.Index.Close()) }()
	}
	in, err := ingest.New(ctx, p.o.Store, o)
	if err != nil {
		return nil, err
	}
	j.Source.Count(p.o.Progress)
	t := &taken{in: in}
	found := packages.New()
	t.tree, err = flatten.Flatten(ctx, j.Source.Layers, in, flatten.Options{
		Watch: watch(found), Plain: j.Source.Kind != source.KindImage, Memory: p.memory(),
	})
	if stored := in.Wait(); err == nil {
		err = stored // otherwise it is what ended the flattening, or follows from it
	}
	if err != nil {
		return nil, err
	}
	t.entries = t.tree.Entries()
	own, err := t.own(j)
	if err != nil {
		return nil, err
	}
	if err := p.note(ctx, own, found, t.id, t.entries, in.Stored); err != nil {
		return nil, err
	}
	t.files, err = p.storeFiles(ctx, own, o)
	return t, err
}

// memory is what earlier runs found layers to hold. It names contents only, so
// it is of use with an index alone.
func (p *Publisher) memory() flatten.Memory {
	if p.o.Seen == nil || p.o.IndexDir == "" {
		return nil
	}
	if p.o.VerifySource {
		return p.o.Seen.Forgetting()
	}
	return p.o.Seen
}

// ingestOptions say how the repository stores contents.
func (p *Publisher) ingestOptions(h *head) ingest.Options {
	return ingest.Options{
		Compression: h.settings.Compression, Algorithm: h.settings.Algorithm,
		Workers: p.o.Workers, Chunking: ingest.DefaultChunking,
	}
}

// own makes the files that go with the tree.
func (t *taken) own(j Job) (map[string][]byte, error) {
	var listing bytes.Buffer
	var err error
	if t.id, err = imagemeta.Encode(&listing, t.entries); err != nil {
		return nil, fmt.Errorf("list the tree: %w", err)
	}
	objects, err := t.objects()
	if err != nil {
		return nil, fmt.Errorf("table of objects: %w", err)
	}
	own := map[string][]byte{listingFile: listing.Bytes(), objectsFile: objects}
	if j.Reference.Kind == reference.Images && j.Source.Config != nil {
		own[imageFile], err = describe(j.Source, t.id)
	}
	if j.Source.Receipt != nil {
		own[ReceiptNote] = j.Source.Receipt
	}
	return own, err
}

// storeFiles stores files of our own as objects.
func (p *Publisher) storeFiles(ctx context.Context, files map[string][]byte, o ingest.Options) (map[string]imagemeta.Stored, error) {
	in, err := ingest.New(ctx, p.o.Store, o)
	if err != nil {
		return nil, err
	}
	ids := map[string]object.ContentID{}
	for name, content := range files {
		if ids[name], err = in.Ingest(ctx, int64(len(content)), bytes.NewReader(content)); err != nil {
			break
		}
	}
	if last := in.Wait(); err == nil {
		err = last
	}
	if err != nil {
		return nil, err
	}
	stored := map[string]imagemeta.Stored{}
	for name, id := range ids {
		stored[name], _ = in.Stored(id)
	}
	return stored, nil
}

// index opens the memory of earlier runs. It only ever saves time, so one that
// another publisher has open is done without.
func (p *Publisher) index(h *head, o ingest.Options) (*ingest.Index, error) {
	if p.o.IndexDir == "" {
		return nil, nil
	}
	x, err := ingest.OpenIndex(filepath.Join(p.o.IndexDir, h.manifest.Name), o)
	if errors.Is(err, ingest.ErrBusy) {
		p.o.Log.Warn("publishing without the index of stored contents", "reason", err)
		return nil, nil
	}
	return x, err
}

// objects is the table of the tree's contents, and sums their sizes.
func (t *taken) objects() ([]byte, error) {
	var table []imagemeta.Object
	seen, linked := map[object.ContentID]bool{}, map[uint32]bool{}
	for i := range t.entries {
		e := &t.entries[i]
		if !e.IsRegular() {
			continue
		}
		if e.Link == 0 || !linked[e.Link] {
			t.bytes += e.Size
			linked[e.Link] = true
		}
		if seen[e.Content] {
			continue
		}
		seen[e.Content] = true
		s, ok := t.in.Stored(e.Content)
		if !ok {
			return nil, fmt.Errorf("%q: content %s is not stored", e.Path, e.Content)
		}
		table = append(table, imagemeta.Object{ID: e.Content, Stored: s})
	}
	var b bytes.Buffer
	if err := imagemeta.EncodeObjects(&b, table); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// notes is what the tree leaves out of its source.
func (t *taken) notes() []string {
	var all []string
	for _, n := range t.tree.Notes {
		all = append(all, fmt.Sprintf("%q: %s", n.Path, n.Text))
	}
	if t.tree.MoreNotes > 0 {
		all = append(all, fmt.Sprintf("and %d more of the kind", t.tree.MoreNotes))
	}
	return all
}

// Image is image.json: what a cell needs to start a container on an image, and
// where the image came from. Config and Manifest are the registry's own bytes.
type Image struct {
	Reference    string          `json:"reference"`
	Tree         string          `json:"tree"`
	Digest       string          `json:"digest"`
	ConfigDigest string          `json:"config_digest"`
	Config       json.RawMessage `json:"config"`
	Manifest     json.RawMessage `json:"manifest,omitempty"`
}

func describe(src *source.Source, id imagemeta.TreeID) ([]byte, error) {
	b, err := json.Marshal(Image{
		Reference: src.Registry + "/" + src.Repository, Tree: id.String(), Digest: src.Digest,
		ConfigDigest: src.ConfigDigest, Config: src.Config, Manifest: src.Manifest,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: the image's configuration is not JSON: %w", imageFile, err)
	}
	return append(b, '\n'), nil
}
