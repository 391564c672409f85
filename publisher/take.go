package publisher

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/flatten"
	"github.com/rootstock-cf/rootstock/publisher/ingest"
	"github.com/rootstock-cf/rootstock/publisher/source"
)

// taken is a source whose contents are stored: its listing, and the files of
// our own that go with it.
type taken struct {
	tree    *flatten.Tree
	entries []imagemeta.Entry
	id      imagemeta.TreeID
	bytes   int64 // of regular files, hard links once
	files   map[string]file
	in      *ingest.Ingester
}

// file is content of our own in the repository.
type file struct {
	id   object.ContentID
	size int64
}

// Names of the files beside a tree (docs/design/tree.md) and of an image's
// description.
const (
	listingFile = "listing"
	objectsFile = "objects"
	imageFile   = "image.json"
)

// take reads the source and stores its contents, listing and objects table.
func (p *Publisher) take(ctx context.Context, h *head, src *source.Source) (_ *taken, err error) {
	in, err := ingest.New(ctx, p.o.Store, ingest.Options{
		Compression: h.settings.Compression, Algorithm: h.settings.Algorithm,
		Workers: p.o.Workers, IndexDir: p.o.IndexDir,
	})
	if err != nil {
		return nil, err
	}
	defer in.Close()
	t := &taken{in: in, files: map[string]file{}}
	layers := make([]flatten.Layer, len(src.Layers))
	for i, l := range src.Layers {
		layers[i] = l
	}
	if t.tree, err = flatten.Flatten(ctx, layers, in, flatten.Options{}); err != nil {
		return nil, err
	}
	t.entries = t.tree.Entries()
	if err := in.Wait(); err != nil {
		return nil, err
	}
	var listing bytes.Buffer
	if t.id, err = imagemeta.Encode(&listing, t.entries); err != nil {
		return nil, fmt.Errorf("list the tree: %w", err)
	}
	objects, err := t.objects()
	if err != nil {
		return nil, fmt.Errorf("table of objects: %w", err)
	}
	own := map[string][]byte{listingFile: listing.Bytes(), objectsFile: objects}
	if src.Config != nil {
		if own[imageFile], err = describe(src, t.id); err != nil {
			return nil, err
		}
	}
	for name, content := range own {
		id, err := in.Ingest(ctx, int64(len(content)), bytes.NewReader(content))
		if err != nil {
			return nil, err
		}
		t.files[name] = file{id, int64(len(content))}
	}
	return t, in.Wait()
}

// objects is the table of the tree's contents, and sums their sizes.
func (t *taken) objects() ([]byte, error) {
	table := map[object.ContentID]imagemeta.Stored{}
	linked := map[uint32]bool{}
	for i := range t.entries {
		e := &t.entries[i]
		if !e.IsRegular() {
			continue
		}
		if e.Link == 0 || !linked[e.Link] {
			t.bytes += e.Size
			linked[e.Link] = true
		}
		s, ok := t.in.Stored(e.Content)
		if !ok {
			return nil, fmt.Errorf("%q: content %s is not stored", e.Path, e.Content)
		}
		table[e.Content] = s
	}
	var b bytes.Buffer
	if err := imagemeta.EncodeObjects(&b, table); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
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
