package publisher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
	"github.com/rootstock-cf/rootstock/publisher/ingest"
	"github.com/rootstock-cf/rootstock/publisher/stored"
)

// maxTable bounds a tree's table of objects that is read back, in bytes.
const maxTable = 1 << 30

// wholeInMemory is up to which size in bytes a content is decoded before it is
// handed on.
const wholeInMemory = 1 << 20

// Recompressed says what a change of compression came to.
type Recompressed struct {
	Revision  uint64
	Unchanged bool  // everything was stored this way already: no new revision
	Contents  int   // distinct
	Known     int64 // objects that were there already
	New       int64 // objects stored
	NewBytes  int64 // stored bytes of those
}

// Recompress stores every file of the newest revision in another compression
// and makes that the repository's: one new revision, with the same trees under
// the same ids, and new catalogs and objects tables. Older revisions, and those
// that tags name, keep their objects. What an attempt that was cut short has
// stored is found again through Options.IndexDir.
func (p *Publisher) Recompress(ctx context.Context, to object.Compression) (*Recompressed, error) {
	r, err := p.recompress(ctx, to)
	if err != nil {
		return nil, fmt.Errorf("recompress as %s: %w", to, err)
	}
	return r, nil
}

func (p *Publisher) recompress(ctx context.Context, to object.Compression) (_ *Recompressed, err error) {
	what := "recompress as " + to.String()
	h, unlock, err := p.locked(ctx, what)
	if err != nil {
		return nil, err
	}
	defer unlock()
	same := h.settings.Compression == to
	h.settings.Compression = to
	if h.metainfo, err = withCompression(h.metainfo, h.settings); err != nil {
		return nil, err
	}
	c := &recompression{p: p, h: h, ids: map[origin]object.ContentID{}, tables: map[string]imagemeta.Stored{}}
	c.o = ingest.Options{
		Compression: to, Algorithm: h.settings.Algorithm, Workers: p.o.Workers, Chunking: ingest.DefaultChunking,
	}
	if c.o.Index, err = p.index(h, c.o); err != nil {
		return nil, err
	}
	if c.o.Index != nil {
		defer func() { err = errors.Join(err, c.o.Index.Close()) }()
	}
	if err := c.contents(ctx); err != nil {
		return nil, err
	}
	if err := putEmpty(ctx, p.o.Store, h.settings); err != nil {
		return nil, err
	}
	tx, err := p.begin(ctx, h)
	if err != nil {
		return nil, err
	}
	defer tx.Close()
	changed, err := tx.Rewrite(ctx, c.where)
	if err != nil {
		return nil, err
	}
	n := c.in.Counters()
	r := &Recompressed{
		Revision: h.manifest.Revision, Unchanged: same && !changed,
		Contents: len(c.ids), Known: n.ObjectsKnown, New: n.ObjectsNew, NewBytes: n.BytesStored,
	}
	if !r.Unchanged {
		r.Revision, err = p.commit(ctx, h, tx, what)
	}
	return r, err
}

// withCompression is the metainfo with the compression that publishers are to
// use from now on, and all else as it is.
func withCompression(meta []byte, s Settings) ([]byte, error) {
	if meta == nil {
		return firstMetainfo(s)
	}
	doc, custom, ours := map[string]json.RawMessage{}, map[string]json.RawMessage{}, map[string]json.RawMessage{}
	for _, level := range []struct {
		from json.RawMessage
		into *map[string]json.RawMessage
	}{{meta, &doc}, {nil, &custom}, {nil, &ours}} {
		from := level.from
		switch level.into {
		case &custom:
			from = doc["custom"]
		case &ours:
			from = custom["rootstock"]
		}
		if from == nil {
			continue
		}
		if err := json.Unmarshal(from, level.into); err != nil {
			return nil, fmt.Errorf("metainfo: %w", err)
		}
	}
	var err error
	if ours["compression"], err = json.Marshal(s.Compression.String()); err != nil {
		return nil, fmt.Errorf("metainfo: %w", err)
	}
	if custom["rootstock"], err = json.Marshal(ours); err != nil {
		return nil, fmt.Errorf("metainfo: %w", err)
	}
	if doc["custom"], err = json.Marshal(custom); err != nil {
		return nil, fmt.Errorf("metainfo: %w", err)
	}
	b, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("metainfo: %w", err)
	}
	return append(b, '\n'), nil
}

// recompression is the work of one run.
type recompression struct {
	p  *Publisher
	h  *head
	o  ingest.Options
	in *ingest.Ingester

	mu     sync.Mutex
	ids    map[origin]object.ContentID // zero as long as nobody has read it
	tables map[string]imagemeta.Stored // by path: the new tables
}

// origin is where a content lies now. It is comparable.
type origin struct {
	size        int64
	compression object.Compression
	hash        object.Hash // of the one object, or of the first chunk
	// chunks names all chunks together; zero for one object.
	chunks object.ContentID
}

func originOf(s imagemeta.Stored) origin {
	src := origin{size: s.Size, compression: s.Compression, hash: s.Hash}
	if s.Chunks == nil {
		return src
	}
	var all []byte
	for _, c := range s.Chunks {
		all = append(all, c.Hash.Digest[:]...)
	}
	src.hash, src.chunks = s.Chunks[0].Hash, object.ContentOf(all)
	return src
}

// storedOf is where a row says that its content lies.
func storedOf(e *catalog.Entry) imagemeta.Stored {
	s := imagemeta.Stored{Size: e.Size, Compression: e.Compression, Hash: e.Hash}
	if e.Flags&catalog.Chunked != 0 {
		s.Hash = object.Hash{} // a bulk hash beside chunks is the same content again
		for _, c := range e.Chunks {
			s.Chunks = append(s.Chunks, imagemeta.Chunk{Size: c.Size, Hash: c.Hash})
		}
	}
	return s
}

// contents stores everything the revision holds in the new way.
func (c *recompression) contents(ctx context.Context) error {
	files, err := c.survey(ctx, c.h.manifest.RootCatalog, c.h.manifest.CatalogSize)
	if err != nil {
		return err
	}
	// Tables tell the contents of objects without reading them: what an
	// earlier attempt has stored need not be touched again.
	old := map[string]*imagemeta.Objects{}
	known := map[origin]object.ContentID{}
	for path, e := range files.tables {
		var b bytes.Buffer
		if e.Size > maxTable {
			return fmt.Errorf("%s: %d bytes, more than %d", path, e.Size, int64(maxTable))
		}
		if err := c.decode(ctx, &b, storedOf(e)); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if old[path], err = imagemeta.OpenObjects(b.Bytes()); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for id, s := range old[path].All() {
			known[originOf(s)] = id
		}
	}
	if c.in, err = ingest.New(ctx, c.p.o.Store, c.o); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(c.o.Workers, 4))
	for src, s := range files.contents {
		g.Go(func() error {
			id, err := c.move(gctx, s, known[src])
			if err != nil {
				return fmt.Errorf("%s: %w", files.paths[src], err)
			}
			c.mu.Lock()
			c.ids[src] = id
			c.mu.Unlock()
			return nil
		})
	}
	if err := errors.Join(g.Wait(), c.in.Wait()); err != nil {
		return err
	}
	return c.newTables(ctx, old)
}

// newTables stores the tables of all trees as they are from now on.
func (c *recompression) newTables(ctx context.Context, old map[string]*imagemeta.Objects) error {
	texts := map[string][]byte{}
	for path, table := range old {
		objects := make([]imagemeta.Object, 0, table.Len())
		for id := range table.All() {
			s, ok := c.in.Stored(id)
			if !ok {
				return fmt.Errorf("%s: no file has its content %s; rootstock check says what is wrong", path, id)
			}
			objects = append(objects, imagemeta.Object{ID: id, Stored: s})
		}
		var b bytes.Buffer
		if err := imagemeta.EncodeObjects(&b, objects); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		texts[path] = b.Bytes()
	}
	var err error
	c.tables, err = c.p.storeFiles(ctx, texts, c.o)
	return err
}

// where answers [revision.Tx.Rewrite].
func (c *recompression) where(path string, e *catalog.Entry) (imagemeta.Stored, error) {
	if s, ok := c.tables[path]; ok {
		return s, nil
	}
	id, ok := c.ids[originOf(storedOf(e))]
	if !ok {
		return imagemeta.Stored{}, errors.New("a content that was not there before")
	}
	s, ok := c.in.Stored(id)
	if !ok {
		return s, fmt.Errorf("content %s is not stored", id)
	}
	return s, nil
}

// move stores a content in the new way and returns its name. want is the name
// it must have, zero if nobody knows.
func (c *recompression) move(ctx context.Context, s imagemeta.Stored, want object.ContentID) (object.ContentID, error) {
	if !want.IsZero() {
		if ok, err := c.in.Adopt(ctx, want); ok || err != nil {
			return want, err
		}
	}
	id, err := c.ingest(ctx, s)
	if err == nil && !want.IsZero() && id != want {
		err = fmt.Errorf("it is content %s, its tree's table says %s; rootstock check says what is wrong", id, want)
	}
	return id, err
}

func (c *recompression) ingest(ctx context.Context, s imagemeta.Stored) (object.ContentID, error) {
	if s.Size <= wholeInMemory {
		b := bytes.NewBuffer(make([]byte, 0, s.Size))
		if err := c.decode(ctx, b, s); err != nil {
			return object.ContentID{}, err
		}
		return c.in.Ingest(ctx, s.Size, b)
	}
	r, w := io.Pipe()
	decoded := make(chan error, 1)
	go func() {
		err := c.decode(ctx, w, s)
		w.CloseWithError(err) //nolint:errcheck // always nil
		decoded <- err
	}()
	id, err := c.in.Ingest(ctx, s.Size, r)
	r.CloseWithError(io.ErrClosedPipe) //nolint:errcheck // always nil; ends the decoder, should it still write
	if derr := <-decoded; derr != nil && !errors.Is(derr, io.ErrClosedPipe) {
		return id, derr // Ingest says no more than that
	}
	return id, err
}

// decode writes the plain bytes of a content to dst.
func (c *recompression) decode(ctx context.Context, dst io.Writer, s imagemeta.Stored) error {
	chunks, typ := s.Chunks, object.Partial
	if chunks == nil {
		chunks, typ = []imagemeta.Chunk{{Size: s.Size, Hash: s.Hash}}, object.Bulk
	}
	for _, part := range chunks {
		if err := c.decodeObject(ctx, dst, typ, codec.Expect{Hash: part.Hash, Compression: s.Compression, Size: part.Size}); err != nil {
			return err
		}
	}
	return nil
}

func (c *recompression) decodeObject(ctx context.Context, dst io.Writer, t object.Type, want codec.Expect) error {
	name := object.Path(want.Hash, t)
	r, err := c.p.o.Store.Get(ctx, name)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := codec.Decode(dst, r, want); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// surveyed is what a revision holds: distinct contents, each with one path or
// name, and the tables of its trees.
type surveyed struct {
	contents map[origin]imagemeta.Stored
	paths    map[origin]string
	tables   map[string]*catalog.Entry
}

func (c *recompression) survey(ctx context.Context, root object.Hash, size int64) (*surveyed, error) {
	s := &surveyed{map[origin]imagemeta.Stored{}, map[origin]string{}, map[string]*catalog.Entry{}}
	todo := []catalog.Nested{{Hash: root, Size: size}}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		below, err := c.surveyCatalog(ctx, n, s)
		if err != nil {
			return nil, fmt.Errorf("catalog at %q: %w", n.Path, err)
		}
		todo = append(todo, below...)
	}
	return s, nil
}

func (c *recompression) surveyCatalog(ctx context.Context, n catalog.Nested, s *surveyed) (_ []catalog.Nested, err error) {
	db, err := stored.OpenCatalog(ctx, c.p.o.Store, c.p.o.TempDir, n.Hash, n.Size)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	trees := strings.HasPrefix(n.Path, treesDir+"/")
	dirs, tables := map[catalog.PathKey]string{}, map[catalog.PathKey]*catalog.Entry{}
	err = db.Scan(ctx, func(row catalog.Row) error {
		switch {
		case row.IsDir() && trees:
			dirs[row.Key] = row.Name
		case !row.IsRegular() || row.Flags&catalog.External != 0:
		case trees && row.Name == objectsFile:
			tables[row.Parent] = &row.Entry
		case !row.Compression.Valid():
			return fmt.Errorf("%q is stored as %s, which is unknown", row.Name, row.Compression)
		default:
			at := storedOf(&row.Entry)
			src := originOf(at)
			if _, ok := s.contents[src]; !ok {
				s.contents[src], s.paths[src] = at, n.Path+"/…/"+row.Name
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for parent, e := range tables {
		dir := n.Path + "/" + dirs[parent]
		if catalog.KeyOf(dir) != parent {
			return nil, fmt.Errorf("%s/%s: the table of no tree", dir, objectsFile)
		}
		s.tables[dir+"/"+objectsFile] = e
	}
	nested, err := db.Nested()
	return slices.DeleteFunc(nested, func(n catalog.Nested) bool { return n.Hash.IsZero() }), err
}
