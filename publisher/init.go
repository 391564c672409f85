package publisher

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
	"github.com/rootstock-cf/rootstock/publisher/revision"
	"github.com/rootstock-cf/rootstock/store"
)

// DefaultTTL is how many seconds a stock client waits before it looks for a
// new revision. Our cells poll every few seconds whatever it says.
const DefaultTTL = 240

// Init makes the first revision of a repository, an empty root directory, in a
// store that holds none yet, and its whitelist, signed by master. It refuses a
// store that holds a repository, with an error that wraps store.ErrConflict.
func Init(ctx context.Context, o Options, s Settings, master *rsa.PrivateKey) error {
	p := newPublisher(o)
	name := o.Keys.Name
	if err := manifest.CheckName(name); err != nil {
		return err
	}
	unlock, err := p.o.Store.Lock(ctx, owner("init"))
	if err != nil {
		return fmt.Errorf("make repository %s: %w", name, err)
	}
	defer unlock() //nolint:errcheck // the lock ends with the process at the latest
	if _, ok, err := p.o.Store.Has(ctx, manifestFile); err != nil {
		return fmt.Errorf("make repository %s: %w", name, err)
	} else if ok {
		return fmt.Errorf("make repository %s: %w: the store holds one already", name, store.ErrConflict)
	}
	if err := p.first(ctx, s, master); err != nil {
		return fmt.Errorf("make repository %s: %w", name, err)
	}
	return nil
}

func (p *Publisher) first(ctx context.Context, s Settings, master *rsa.PrivateKey) error {
	if err := putEmpty(ctx, p.o.Store, s); err != nil {
		return err
	}
	meta, err := firstMetainfo(s)
	if err != nil {
		return err
	}
	h := &head{settings: s, metainfo: meta}
	h.manifest = manifest.Manifest{Name: p.o.Keys.Name, TTL: DefaultTTL, GarbageCollectable: true}
	tx, err := p.begin(ctx, h)
	if err != nil {
		return err
	}
	defer tx.Close()
	now := p.o.Now()
	list, err := manifest.Whitelist{
		Name: p.o.Keys.Name, Created: now, Expires: now.Add(manifest.WhitelistValidity),
		Fingerprints: []object.Hash{p.o.Keys.Certificate.Fingerprint(s.Algorithm)},
	}.Sign(master, s.Algorithm)
	if err != nil {
		return fmt.Errorf("sign whitelist: %w", err)
	}
	// An earlier init may have died before its manifest: what it left is
	// replaced.
	for file, text := range map[string][]byte{whitelistFile: list, replicaFile: []byte("This server may be replicated from.\n")} {
		if err := p.replace(ctx, file, text, maxRootFile); err != nil {
			return err
		}
	}
	_, err = p.commit(ctx, h, tx, "init")
	return err
}

// replace swaps a root file for whatever is there, or is not.
func (p *Publisher) replace(ctx context.Context, file string, next []byte, limit int64) error {
	old, err := readRoot(ctx, p.o.Store, file, limit)
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		return err
	}
	if err := p.o.Store.Swap(ctx, file, old, next); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

func firstMetainfo(s Settings) ([]byte, error) {
	b, err := json.MarshalIndent(map[string]any{
		"administrator": "", "email": "", "organisation": "", "description": "", "url": "",
		"recommended-stratum0": "", "recommended-stratum1s": []string{},
		"custom": map[string]any{"rootstock": map[string]string{"compression": s.Compression.String()}},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("metainfo: %w", err)
	}
	return append(b, '\n'), nil
}

// putEmpty stores the object of no bytes, which every marker names.
func putEmpty(ctx context.Context, st store.Store, s Settings) error {
	stored, err := codec.Encode(s.Compression, nil, nil)
	if err != nil {
		return err
	}
	h, err := revision.EmptyObject(s.Algorithm, s.Compression)
	if err != nil {
		return err
	}
	return st.Put(ctx, object.Path(h, object.Bulk), stored)
}
