package publisher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
	"github.com/rootstock-cf/rootstock/publisher/stored"
	"github.com/rootstock-cf/rootstock/store"
)

// Names of the root files (CVMFS-FORMAT 1.1).
const (
	manifestFile  = ".cvmfspublished"
	whitelistFile = ".cvmfswhitelist"
	reflogFile    = ".cvmfsreflog"
	replicaFile   = ".cvmfs_master_replica"
)

// Bounds on what is read back, in bytes.
const (
	maxRootFile = 64 << 10
	maxReflog   = 1 << 30
	maxSmall    = 1 << 20 // certificate, metainfo
	maxHistory  = 1 << 30
)

// head is a repository as a publish finds it.
type head struct {
	what     string // was done, where that is known only once it is; for the revision's tag
	raw      []byte // of the manifest, what the swap expects
	manifest manifest.Manifest
	metainfo []byte // plain
	settings Settings
	// whitelist is not verified: a publisher need not have the master key's
	// public half.
	whitelist manifest.Whitelist
}

// Settings are what a repository fixes for all its publishers. They lie in the
// metainfo, which the manifest names and signs.
type Settings struct {
	Compression object.Compression
	Algorithm   object.Algorithm
}

// metainfo is the part of the metainfo JSON that is ours (CVMFS-FORMAT 3.4).
type metainfo struct {
	Custom struct {
		Rootstock *struct {
			Compression string `json:"compression"`
		} `json:"rootstock"`
	} `json:"custom"`
}

// head reads the manifest and proves that our certificate signed it: whoever
// publishes must be the one who did, or has been put on the whitelist and says
// so by signing the repository again.
func (p *Publisher) head(ctx context.Context) (*head, error) {
	h, err := readHead(ctx, p.o.Store)
	if err != nil {
		return nil, err
	}
	if h.manifest.Name != p.o.Keys.Name {
		return nil, fmt.Errorf("the store holds %s, the keys are those of %s", h.manifest.Name, p.o.Keys.Name)
	}
	if _, err := manifest.OpenSigned(h.raw, p.o.Keys.Certificate); err != nil {
		return nil, fmt.Errorf("%s was not signed with these keys; publishing with them would shut out every cell that does not trust them (after a change of keys, rootstock resign): %w", manifestFile, err)
	}
	if h.whitelist, err = readWhitelist(ctx, p.o.Store); err != nil {
		return nil, err
	}
	if !h.whitelist.Lists(p.o.Keys.Certificate) {
		return nil, fmt.Errorf("%w, so that no cell would take what it signs: rootstock whitelist sign --certificate %s.crt, with the master key, and rootstock whitelist install",
			manifest.ErrUntrusted, h.manifest.Name)
	}
	return h, nil
}

// readHead reads what the manifest of st says, without asking who signed it.
func readHead(ctx context.Context, st store.Getter) (*head, error) {
	raw, err := readRoot(ctx, st, manifestFile, maxRootFile)
	if errors.Is(err, store.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s is missing; rootstock init makes one", ErrNotRepository, manifestFile)
	}
	if err != nil {
		return nil, err
	}
	env, err := manifest.Open(raw)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", manifestFile, err)
	}
	h := &head{raw: raw}
	if h.manifest, err = manifest.Parse(env.Body); err != nil {
		return nil, fmt.Errorf("read %s: %w", manifestFile, err)
	}
	h.settings.Algorithm = h.manifest.RootCatalog.Algorithm
	if h.manifest.Metainfo.IsZero() {
		return h, nil // a stock repository without: zlib, like all of stock's
	}
	var plain bytes.Buffer
	if err := readObject(ctx, st, &plain, h.manifest.Metainfo, object.Metainfo, maxSmall); err != nil {
		return nil, err
	}
	h.metainfo = plain.Bytes()
	var m metainfo
	if err := json.Unmarshal(h.metainfo, &m); err != nil {
		return nil, fmt.Errorf("metainfo: %w", err)
	}
	if m.Custom.Rootstock != nil {
		if h.settings.Compression, err = object.ParseCompression(m.Custom.Rootstock.Compression); err != nil {
			return nil, fmt.Errorf("metainfo: %w", err)
		}
	}
	return h, nil
}

func readRoot(ctx context.Context, st store.Getter, name string, limit int64) ([]byte, error) {
	return stored.Root(ctx, st, name, limit)
}

// readObject writes the plain bytes of a zlib object to dst.
func readObject(ctx context.Context, st store.Getter, dst io.Writer, h object.Hash, t object.Type, limit int64) error {
	return stored.Object(ctx, st, dst, h, t, limit)
}

// putObject stores plain as a zlib object and returns its name.
func putObject(ctx context.Context, st store.Store, plain []byte, a object.Algorithm, t object.Type) (object.Hash, error) {
	stored, err := codec.Encode(object.Zlib, nil, plain)
	if err != nil {
		return object.Hash{}, fmt.Errorf("store %s: %w", t, err)
	}
	h := a.Sum(stored)
	if err := st.Put(ctx, object.Path(h, t), stored); err != nil {
		return object.Hash{}, fmt.Errorf("store %s: %w", t, err)
	}
	return h, nil
}

// RepositoryName says which repository a store holds.
func RepositoryName(ctx context.Context, st store.Getter) (string, error) {
	h, err := readHead(ctx, st)
	if err != nil {
		return "", err
	}
	return h.manifest.Name, nil
}
