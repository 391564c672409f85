package check

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rootstock-cf/rootstock/catalog/history"
	"github.com/rootstock-cf/rootstock/catalog/reflog"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
	"github.com/rootstock-cf/rootstock/publisher/stored"
)

// maxManifest is what stock tools read of a manifest (CVMFS-FORMAT 1.2.1), in
// bytes; maxMetainfo what clients show.
const (
	maxManifest = 4096
	maxMetainfo = 64 << 10
)

// root is a revision to be walked.
type root struct {
	hash     object.Hash
	size     int64
	revision uint64
	tag      string // empty for the head
}

// rootFiles checks what lies outside the catalogs and returns the revisions to
// walk, the head first. The error is not about the repository.
func (c *checker) rootFiles(ctx context.Context) ([]root, error) {
	raw, err := stored.Root(ctx, c.o.Store, stored.ManifestFile, stored.MaxRootFile)
	here := at{object: stored.ManifestFile}
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errors.New("no repository here: " + stored.ManifestFile + " is missing")
		}
		return nil, err
	}
	env, err := manifest.Open(raw)
	if err != nil {
		c.find(Manifest, here, "%v", err)
		return nil, nil
	}
	m, err := manifest.Parse(env.Body)
	if err != nil {
		c.find(Manifest, here, "%v", err)
		return nil, nil
	}
	c.manifest = m
	if len(raw) > maxManifest {
		c.find(Manifest, here, "it has %d bytes, stock tools read %d", len(raw), maxManifest)
	}
	if err := manifest.CheckName(m.Name); err != nil {
		c.find(Manifest, here, "%v", err)
	}
	c.trust(ctx, raw)
	c.metainfo(ctx)
	tags, err := c.history(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.reflog(ctx); err != nil {
		return nil, err
	}
	roots := []root{{hash: m.RootCatalog, size: m.CatalogSize, revision: m.Revision}}
	for _, t := range tags {
		if c.o.Tags {
			roots = append(roots, root{t.Root, t.Size, t.Revision, t.Name})
		} else if t.Root != m.RootCatalog && !c.exists(ctx, name(t.Root, object.Catalog)) {
			c.find(Missing, at{object: name(t.Root, object.Catalog)}, "root catalog of the tag %s is not there", t.Name)
		}
	}
	return roots, nil
}

// trust checks signature, certificate and whitelist.
func (c *checker) trust(ctx context.Context, raw []byte) {
	m := c.manifest
	var cert *manifest.Certificate
	if m.Certificate.IsZero() {
		c.find(Certificate, at{object: stored.ManifestFile}, "the manifest names no certificate")
	} else {
		here := at{object: name(m.Certificate, object.Certificate)}
		if text, ok := c.small(ctx, Certificate, here, m.Certificate, object.Certificate, stored.MaxSmall); ok {
			if parsed, err := manifest.ParseCertificate(text); err != nil {
				c.find(Certificate, here, "%v", err)
			} else {
				cert = &parsed
			}
		}
	}
	if cert != nil {
		if _, err := manifest.OpenSigned(raw, *cert); err != nil {
			c.find(Signature, at{object: stored.ManifestFile}, "%v", err)
		}
	}
	c.whitelist(ctx, cert)
}

func (c *checker) whitelist(ctx context.Context, cert *manifest.Certificate) {
	here := at{object: stored.WhitelistFile}
	raw, err := stored.Root(ctx, c.o.Store, stored.WhitelistFile, stored.MaxRootFile)
	if err != nil {
		c.unreadable(Whitelist, here, err)
		return
	}
	var list manifest.Whitelist
	env, err := manifest.Open(raw)
	if err == nil {
		list, err = manifest.ParseWhitelist(env.Body)
	}
	if err != nil {
		c.find(Whitelist, here, "%v", err)
		return
	}
	if len(c.o.Masters) > 0 {
		if _, err := manifest.OpenWhitelist(raw, c.o.Masters); err != nil {
			c.find(Signature, here, "%v", err)
		}
	}
	if list.Name != c.manifest.Name {
		c.find(Whitelist, here, "it is that of %s, the manifest that of %s", list.Name, c.manifest.Name)
	}
	if list.Expired(c.o.Now()) {
		c.find(Whitelist, here, "it expired at %s; sign a new one with the master key", list.End().UTC().Format("2006-01-02 15:04 UTC"))
	}
	if cert == nil {
		return
	}
	for _, f := range list.Fingerprints {
		if f == cert.Fingerprint(f.Algorithm) {
			return
		}
	}
	c.find(Whitelist, here, "the manifest's certificate %s is not on it", manifest.FormatFingerprint(cert.Fingerprint(c.manifest.RootCatalog.Algorithm)))
}

// small reads a certificate or metainfo, which a stock stratum 1 compresses
// anew and expects to arrive at the same hash (CVMFS-FORMAT 0.3).
func (c *checker) small(ctx context.Context, k Kind, here at, h object.Hash, t object.Type, limit int64) ([]byte, bool) {
	plain, err := stored.Small(ctx, c.o.Store, h, t, limit)
	if err != nil {
		c.unreadable(k, here, err)
		return nil, false
	}
	again, err := codec.Encode(object.Zlib, nil, plain)
	if err != nil || h.Algorithm.Sum(again) != h {
		c.find(k, here, "its bytes are not those that zlib makes: a stock stratum 1 would serve others under this name")
	}
	return plain, true
}

func (c *checker) metainfo(ctx context.Context) {
	if c.manifest.Metainfo.IsZero() {
		return
	}
	here := at{object: name(c.manifest.Metainfo, object.Metainfo)}
	text, ok := c.small(ctx, Metainfo, here, c.manifest.Metainfo, object.Metainfo, stored.MaxSmall)
	if !ok {
		return
	}
	var doc struct {
		Custom struct {
			Rootstock *struct {
				Compression string `json:"compression"`
			} `json:"rootstock"`
		} `json:"custom"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		var wrongType *json.UnmarshalTypeError
		if !errors.As(err, &wrongType) {
			c.find(Metainfo, here, "it is not JSON: %v", err)
		}
		return
	}
	if len(text) > maxMetainfo {
		c.warn(Metainfo, here, "clients show %d bytes of metainfo, it has %d", maxMetainfo, len(text))
	}
	if doc.Custom.Rootstock == nil {
		return
	}
	c.ours = true
	if _, err := object.ParseCompression(doc.Custom.Rootstock.Compression); err != nil {
		c.find(Metainfo, here, "%v", err)
	}
}

func (c *checker) history(ctx context.Context) ([]history.Tag, error) {
	h := c.manifest.History
	if h.IsZero() {
		return nil, nil
	}
	here := at{object: name(h, object.History)}
	plain, err := stored.Small(ctx, c.o.Store, h, object.History, stored.MaxHistory)
	if err != nil {
		c.unreadable(History, here, err)
		return nil, nil
	}
	file := filepath.Join(c.dir, "history")
	if err := os.WriteFile(file, plain, 0o600); err != nil {
		return nil, err
	}
	db, err := history.Open(file)
	if err != nil {
		c.find(History, here, "%v", err)
		return nil, nil
	}
	defer db.Close()
	if db.FQRN() != c.manifest.Name {
		c.find(History, here, "it is that of %s", db.FQRN())
	}
	tags, err := db.List()
	if err != nil {
		c.find(History, here, "%v", err)
		return nil, nil
	}
	branches, err := db.Branches()
	if err != nil {
		c.find(History, here, "%v", err)
		return tags, nil
	}
	c.branches(here, tags, branches)
	return tags, nil
}

// branches checks what tags say of branches.
func (c *checker) branches(here at, tags []history.Tag, branches []history.Branch) {
	known := map[string]uint64{"": 0}
	for _, b := range branches {
		if b.Name != "" && history.CheckName(b.Name) != nil {
			c.find(History, here, "branch %q: this is no name", b.Name)
		}
		known[b.Name] = b.Initial
	}
	for _, t := range tags {
		initial, ok := known[t.Branch]
		switch {
		case !ok:
			c.find(History, here, "tag %s is on the branch %q, which there is not", t.Name, t.Branch)
		case t.Revision < initial:
			c.find(History, here, "tag %s is revision %d, its branch %q begins with %d", t.Name, t.Revision, t.Branch, initial)
		}
		if t.Revision > c.manifest.Revision {
			c.find(History, here, "tag %s is revision %d, the repository is at %d", t.Name, t.Revision, c.manifest.Revision)
		}
	}
}

func (c *checker) reflog(ctx context.Context) error {
	here := at{object: stored.ReflogFile}
	m := c.manifest
	raw, err := stored.Root(ctx, c.o.Store, stored.ReflogFile, stored.MaxReflog)
	if errors.Is(err, fs.ErrNotExist) {
		c.warn(Reflog, here, "is not there: garbage collection will not find revisions that were rolled back")
		return nil
	} else if err != nil {
		c.find(Reflog, here, "%v", err)
		return nil
	}
	file := filepath.Join(c.dir, "reflog")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return err
	}
	db, err := reflog.Open(file)
	if err != nil {
		c.find(Reflog, here, "%v", err)
		return nil
	}
	defer db.Close()
	if db.FQRN() != m.Name {
		c.find(Reflog, here, "it is that of %s", db.FQRN())
	}
	refs, err := db.List()
	if err != nil {
		c.find(Reflog, here, "%v", err)
		return nil
	}
	types := map[object.Hash]object.Type{}
	for _, r := range refs {
		types[r.Hash] = r.Type
	}
	for t, h := range map[object.Type]object.Hash{
		object.Catalog: m.RootCatalog, object.Certificate: m.Certificate, object.History: m.History, object.Metainfo: m.Metainfo,
	} {
		if got, ok := types[h]; !h.IsZero() && (!ok || got != t) {
			c.find(Reflog, here, "the manifest's %s %s is not on it", t, h)
		}
	}
	if !m.Reflog.IsZero() && m.Reflog.Algorithm.Sum(raw) != m.Reflog {
		c.warn(Reflog, here, "it is not the one that the manifest names: stock garbage collection leaves it so until the next publish")
	}
	return nil
}

// exists reports whether a file is there. A file that cannot be looked at is.
func (c *checker) exists(ctx context.Context, file string) bool {
	if s, ok := c.o.Store.(interface {
		Has(ctx context.Context, name string) (int64, bool, error)
	}); ok {
		_, ok, err := s.Has(ctx, file)
		return ok || err != nil
	}
	r, err := c.o.Store.Get(ctx, file)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	r.Close() //nolint:errcheck // nothing was read
	return true
}
