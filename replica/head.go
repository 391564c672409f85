package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/store"
)

// Bounds on what is fetched, in bytes.
const (
	maxRootFile    = manifest.MaxSize
	maxCertificate = 64 << 10
	maxMetainfo    = 1 << 20
	maxHistory     = 1 << 30
	maxCatalog     = 1 << 30
	maxReflog      = 1 << 30
)

// pollAge is how old a root file a proxy in between may answer with.
const pollAge = time.Second

// signed is a head as the server gave it, with its tags.
type signed struct {
	published, whitelist       []byte
	publishedTag, whitelistTag string
}

// head is a verified revision of the source.
type head struct {
	signed
	manifest    manifest.Manifest
	certificate []byte // plain
}

// mayReplicate asks for the marker that stock servers ask for, too.
func (r *Replicator) mayReplicate(ctx context.Context) error {
	_, _, err := fetch.ReadAll(ctx, r.o.From, markerFile, fetch.Options{MaxAge: pollAge}, maxRootFile)
	if errors.Is(err, fetch.ErrNotFound) {
		return fmt.Errorf("%w: it has no %s; ask its operator, or name another server", ErrNotReplicable, markerFile)
	}
	return err
}

// fetchHead gets and verifies manifest, whitelist and certificate.
func (r *Replicator) fetchHead(ctx context.Context) (*head, error) {
	h := &head{}
	var err error
	o := fetch.Options{MaxAge: pollAge}
	if h.published, h.publishedTag, err = fetch.ReadAll(ctx, r.o.From, manifest.FileName, o, maxRootFile); err != nil {
		return nil, err
	}
	if h.whitelist, h.whitelistTag, err = fetch.ReadAll(ctx, r.o.From, manifest.WhitelistName, o, maxRootFile); err != nil {
		return nil, err
	}
	r.seen = h.signed
	cert := func(ctx context.Context, hash object.Hash) ([]byte, error) {
		var b memory
		err := fetch.Object(ctx, r.o.From, object.Certificate, codec.Expect{Hash: hash, Size: -1, Limit: maxCertificate}, &b)
		h.certificate = b.Bytes()
		return h.certificate, err
	}
	if len(r.o.Trust.Keys) == 0 {
		h.manifest, err = r.verifyUnrooted(ctx, h, cert)
		return h, err
	}
	name := r.o.Name
	if name == "" {
		if name, err = unprovenName(h.published); err != nil {
			return nil, err
		}
	}
	v, err := r.o.Trust.Verify(ctx, name, h.published, h.whitelist, cert, r.o.Now())
	if err != nil {
		return nil, fmt.Errorf("repository %w", err)
	}
	h.manifest = v.Manifest
	return h, nil
}

// unprovenName is what a manifest says its repository is. The whitelist, which
// the master key signs, must say the same.
func unprovenName(raw []byte) (string, error) {
	env, err := manifest.Open(raw)
	if err != nil {
		return "", fmt.Errorf("%s: %w", manifest.FileName, err)
	}
	m, err := manifest.Parse(env.Body)
	if err != nil {
		return "", fmt.Errorf("%s: %w", manifest.FileName, err)
	}
	return m.Name, manifest.CheckName(m.Name)
}

// verifyUnrooted checks everything but who the master key belongs to.
func (r *Replicator) verifyUnrooted(ctx context.Context, h *head, cert func(context.Context, object.Hash) ([]byte, error)) (manifest.Manifest, error) {
	name, err := unprovenName(h.published)
	if err != nil {
		return manifest.Manifest{}, err
	}
	if r.o.Name != "" && r.o.Name != name {
		return manifest.Manifest{}, fmt.Errorf("%w: the server has %s, not %s", manifest.ErrName, name, r.o.Name)
	}
	env, err := manifest.Open(h.whitelist)
	if err != nil {
		return manifest.Manifest{}, fmt.Errorf("%s: %w", manifest.WhitelistName, err)
	}
	list, err := manifest.ParseWhitelist(env.Body)
	if err != nil {
		return manifest.Manifest{}, fmt.Errorf("%s: %w", manifest.WhitelistName, err)
	}
	menv, err := manifest.Open(h.published)
	if err != nil {
		return manifest.Manifest{}, fmt.Errorf("%s: %w", manifest.FileName, err)
	}
	m, err := manifest.Parse(menv.Body)
	if err != nil {
		return manifest.Manifest{}, fmt.Errorf("%s: %w", manifest.FileName, err)
	}
	text, err := cert(ctx, m.Certificate)
	if err != nil {
		return manifest.Manifest{}, err
	}
	c, err := manifest.ParseCertificate(text)
	if err != nil {
		return manifest.Manifest{}, err
	}
	if list.Name != name || !slices.ContainsFunc(list.Fingerprints, func(f object.Hash) bool { return c.Fingerprint(f.Algorithm) == f }) {
		return manifest.Manifest{}, fmt.Errorf("%s: %w", name, manifest.ErrUntrusted)
	}
	if list.Expired(r.o.Now()) {
		return manifest.Manifest{}, fmt.Errorf("%s: %w", name, manifest.ErrExpired)
	}
	if m, err = manifest.OpenSigned(h.published, c); err != nil {
		return m, fmt.Errorf("%w: %w", manifest.ErrSignature, err)
	}
	return m, nil
}

// before is what the store held when the run began.
type before struct {
	raw      []byte // of the manifest; nil if there was none
	manifest manifest.Manifest
	whole    bool // the replica is not restricted to some trees
	only     []string
	current  bool // manifest and whitelist are the source's
	// collecting tells that a garbage collection was cut off.
	collecting bool
}

// stored reads what the store holds, and refuses a source that is another
// repository or an older one.
func (r *Replicator) stored(ctx context.Context, h *head) (*before, error) {
	b := &before{whole: true}
	var err error
	if b.raw, err = readRoot(ctx, r.o.To, manifest.FileName, maxRootFile); err != nil {
		return nil, err
	}
	if b.only, err = readOnly(ctx, r.o.To); err != nil {
		return nil, err
	}
	b.whole = b.only == nil
	if _, b.collecting, err = r.o.To.Has(ctx, collectingFile); err != nil {
		return nil, err
	}
	if b.collecting {
		r.o.Log.Warn("a garbage collection was cut off: run rootstock gc again; until then each run reads all catalogs")
	}
	if b.raw == nil {
		return b, nil
	}
	env, err := manifest.Open(b.raw)
	if err == nil {
		b.manifest, err = manifest.Parse(env.Body)
	}
	if err != nil {
		return nil, fmt.Errorf("the store's own %s: %w", manifest.FileName, err)
	}
	if b.manifest.Name != h.manifest.Name {
		return nil, fmt.Errorf("%w: %s; give each its own", ErrOther, b.manifest.Name)
	}
	if err := manifest.Newer(b.manifest.Mark(), h.manifest); err != nil {
		return nil, fmt.Errorf("the source is at revision %d, the replica at %d: %w", h.manifest.Revision, b.manifest.Revision, err)
	}
	list, err := readRoot(ctx, r.o.To, manifest.WhitelistName, maxRootFile)
	if err != nil {
		return nil, err
	}
	b.current = bytes.Equal(b.raw, h.published) && bytes.Equal(list, h.whitelist)
	return b, nil
}

// isCurrent tells that there is nothing to do.
func (b *before) isCurrent(only []reference.Reference) bool {
	return b.current && slices.Equal(b.only, texts(only))
}

// complete tells that a catalog in the store means that all below it is there,
// as far as only asks for it.
func (b *before) complete(only []reference.Reference) bool {
	return b.whole || slices.Equal(b.only, texts(only))
}

// readRoot reads a root file of the store; nil if it is not there.
func readRoot(ctx context.Context, st store.Getter, name string, limit int64) ([]byte, error) {
	r, err := st.Get(ctx, name)
	if errors.Is(err, store.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("larger than %d bytes", limit)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// memory is a fetch.Sink.
type memory struct{ bytes.Buffer }

func (m *memory) Reset() error {
	m.Buffer.Reset()
	return nil
}
