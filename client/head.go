package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rootstock-cf/rootstock/catalog/history"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
)

const (
	maxCertificate = 64 << 10 // bytes, plain
	maxHistory     = 64 << 20 // bytes, plain
	// pollAge is how old a manifest a proxy may answer with.
	pollAge = 5 * time.Second
)

// openHead finds the first head: the servers', or else the last verified one.
func (r *Repository) openHead(ctx context.Context) (*head, error) {
	mark, err := r.state.mark(r.o.Name)
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", r.o.Name, err)
	}
	d, v, err := r.fetchSigned(ctx, signed{})
	if err == nil {
		err = manifest.Newer(mark, v.Manifest)
	}
	var h *head
	if err == nil {
		h, err = r.showVerified(ctx, v)
	}
	if err == nil {
		r.saved, h.checked = d, r.o.Clock()
		r.accepted(nil)
		return h, r.saveHead(d, v.Manifest.Mark())
	}
	r.accepted(err)
	if ctx.Err() != nil {
		return nil, err
	}
	d, h, ok := r.openSaved(ctx, mark)
	if !ok {
		return nil, err
	}
	r.saved = d
	h.offline = true
	r.o.Log.Warn("repository starts from its last verified revision", "repository", r.o.Name, "revision", h.revision, "cause", err)
	return h, nil
}

// openSaved shows what was verified last, if it still verifies.
func (r *Repository) openSaved(ctx context.Context, mark manifest.Mark) (signed, *head, bool) {
	d, ok := r.state.load()
	if !ok {
		return d, nil, false
	}
	cert := func(context.Context, object.Hash) ([]byte, error) { return d.certificate, nil }
	v, err := r.verify(ctx, &d, cert)
	if errors.Is(err, manifest.ErrExpired) && r.o.Grace > 0 {
		v, err = r.verifyAt(ctx, &d, cert, r.o.Clock().Add(-r.o.Grace))
	}
	if err != nil || manifest.Newer(mark, v.Manifest) != nil {
		return d, nil, false
	}
	d.certificateHash = v.Manifest.Certificate
	h, err := r.showVerified(ctx, v)
	return d, h, err == nil
}

// accepted counts what became of a manifest that a server gave. Not having got
// one is no verdict.
func (r *Repository) accepted(err error) {
	switch {
	case err == nil:
		r.verified.Store(r.o.Clock().Unix())
	case errors.Is(err, manifest.ErrExpired), errors.Is(err, manifest.ErrRollback), errors.Is(err, manifest.ErrSignature),
		errors.Is(err, manifest.ErrUntrusted), errors.Is(err, manifest.ErrName), errors.Is(err, manifest.ErrMalformed),
		errors.Is(err, manifest.ErrBlacklisted):
		r.rejected.Add(1)
	}
}

func (r *Repository) saveHead(d signed, mark manifest.Mark) error {
	if err := r.state.save(r.o.Name, d, mark); err != nil {
		// Without the breadcrumb a rollback would go unseen after a restart.
		return fmt.Errorf("repository %s: %w", r.o.Name, err)
	}
	return nil
}

// fetchSigned gets manifest, whitelist and certificate and verifies them
// against each other. old is what is known already and saves requests.
func (r *Repository) fetchSigned(ctx context.Context, old signed) (signed, manifest.Verified, error) {
	d := old
	if err := r.fetchRootFile(ctx, manifest.FileName, &d.published, &d.publishedTag); err != nil {
		return d, manifest.Verified{}, err
	}
	changed := string(d.published) != string(old.published)
	aged := r.o.Clock().Unix()-d.whitelistAt >= int64(r.o.WhitelistAge/time.Second)
	if changed || aged {
		if err := r.fetchWhitelist(ctx, &d); err != nil {
			return d, manifest.Verified{}, err
		}
	}
	cert := func(ctx context.Context, h object.Hash) ([]byte, error) { return r.certificate(ctx, &d, h) }
	v, err := r.verify(ctx, &d, cert)
	if err != nil && !changed && !aged {
		// The whitelist at hand no longer does: there may be a new one.
		if ferr := r.fetchWhitelist(ctx, &d); ferr != nil {
			return d, v, err
		}
		v, err = r.verify(ctx, &d, cert)
	}
	return d, v, err
}

func (r *Repository) fetchWhitelist(ctx context.Context, d *signed) error {
	if err := r.fetchRootFile(ctx, manifest.WhitelistName, &d.whitelist, &d.whitelistTag); err != nil {
		return err
	}
	d.whitelistAt = r.o.Clock().Unix()
	return nil
}

// fetchRootFile replaces data unless the server says that it is current.
func (r *Repository) fetchRootFile(ctx context.Context, name string, data *[]byte, tag *string) error {
	got, newTag, err := fetch.ReadAll(ctx, r.o.Fetcher, name, fetch.Options{MaxAge: pollAge, ETag: *tag}, maxRootFile)
	if errors.Is(err, fetch.ErrNotModified) && *data != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("repository %s: %w", r.o.Name, err)
	}
	*data, *tag = got, newTag
	return nil
}

func (r *Repository) verify(ctx context.Context, d *signed, cert func(context.Context, object.Hash) ([]byte, error)) (manifest.Verified, error) {
	return r.verifyAt(ctx, d, cert, r.o.Clock())
}

func (r *Repository) verifyAt(ctx context.Context, d *signed, cert func(context.Context, object.Hash) ([]byte, error), now time.Time) (manifest.Verified, error) {
	trust, err := r.trust()
	if err != nil {
		return manifest.Verified{}, err
	}
	v, err := trust.Verify(ctx, r.o.Name, d.published, d.whitelist, cert, now)
	if err != nil {
		return v, fmt.Errorf("repository %w", err)
	}
	return v, nil
}

// trust is what was configured, with the blacklist of this moment.
func (r *Repository) trust() (manifest.Trust, error) {
	trust := r.o.Trust
	if r.o.Blacklist != nil {
		var err error
		if trust.Blacklist, err = r.o.Blacklist(); err != nil {
			return trust, fmt.Errorf("repository %s: blacklist: %w", r.o.Name, err)
		}
	}
	return trust, nil
}

func (r *Repository) certificate(ctx context.Context, d *signed, h object.Hash) ([]byte, error) {
	if d.certificate != nil && d.certificateHash == h {
		return d.certificate, nil
	}
	var buf memorySink
	// Manifest.AltPaths cannot be trusted yet; both names lead to the same
	// verified bytes.
	if err := r.fetchMeta(ctx, object.Certificate, unsized(h, maxCertificate), &buf); err != nil {
		return nil, err
	}
	d.certificate, d.certificateHash = buf.Bytes(), h
	return d.certificate, nil
}

// fetchMeta fetches an object of a kind that is always zlib. Where data/ is
// closed to us, the alternative name may be open (CVMFS-FORMAT 1.3).
func (r *Repository) fetchMeta(ctx context.Context, t object.Type, want codec.Expect, dst fetch.Sink) error {
	err := fetch.Object(ctx, r.o.Fetcher, t, want, dst)
	if err == nil || ctx.Err() != nil || errors.Is(err, fetch.ErrCorrupt) {
		return err
	}
	if rerr := dst.Reset(); rerr != nil {
		return rerr
	}
	if fetch.Verified(ctx, r.o.Fetcher, ".cvmfsalt-"+want.Hash.String()+string(rune(t)), fetch.Options{}, want, dst) == nil {
		return nil
	}
	return err
}

// unsized expects an object whose size nothing states.
func unsized(h object.Hash, limit int64) codec.Expect {
	return codec.Expect{Hash: h, Compression: object.Zlib, Size: -1, Limit: limit}
}

// showVerified makes a head of a verified manifest: its root catalog, or that
// of the configured tag or date.
func (r *Repository) showVerified(ctx context.Context, v manifest.Verified) (*head, error) {
	h := head{manifest: v.Manifest, end: v.WhitelistEnd}
	root, size := v.Manifest.RootCatalog, v.Manifest.CatalogSize
	if r.o.Tag != "" || !r.o.Date.IsZero() {
		tag, err := r.findTag(ctx, v.Manifest.History)
		if err != nil {
			return nil, fmt.Errorf("repository %s: %w", r.o.Name, err)
		}
		root, size = tag.Root, tag.Size
	}
	return r.show(ctx, root, size, h)
}

// show loads a root catalog of size bytes, 0 if unknown.
func (r *Repository) show(ctx context.Context, root object.Hash, size int64, h head) (*head, error) {
	s, err := r.slots.get(r.catalogs.of(root, size), "", "", true)
	if err != nil {
		return nil, err
	}
	a, err := r.use(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("repository %s: root %w", r.o.Name, err)
	}
	defer a.release()
	h.root, h.revision = s, a.index.Revision()
	return &h, r.allowed(h.revision)
}

// allowed refuses a revision that the blacklist names: that of the manifest is
// verified with it, but a tag, a date or a hash may lead to another.
func (r *Repository) allowed(revision uint64) error {
	trust, err := r.trust()
	if err == nil && trust.Blacklist.Revision(r.o.Name, revision) {
		err = fmt.Errorf("repository %s: revision %d is %w", r.o.Name, revision, manifest.ErrBlacklisted)
	}
	return err
}

func (r *Repository) findTag(ctx context.Context, h object.Hash) (history.Tag, error) {
	wanted := r.o.Tag
	if wanted == "" {
		wanted = "of " + r.o.Date.UTC().Format(time.RFC3339)
	}
	if h.IsZero() {
		return history.Tag{}, fmt.Errorf("%w: %s (the repository has no history)", ErrNoTag, wanted)
	}
	dir, err := os.MkdirTemp(r.state.dir, ".history-")
	if err != nil {
		return history.Tag{}, fmt.Errorf("state: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary
	sink, err := newFileSink(filepath.Join(dir, "db"))
	if err != nil {
		return history.Tag{}, err
	}
	err = r.fetchMeta(ctx, object.History, unsized(h, maxHistory), sink)
	if cerr := sink.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return history.Tag{}, err
	}
	db, err := history.Open(sink.Name())
	if err != nil {
		return history.Tag{}, err
	}
	defer db.Close() //nolint:errcheck // read only
	var tag history.Tag
	var ok bool
	if r.o.Tag != "" {
		tag, ok, err = db.Get(r.o.Tag)
	} else {
		tag, ok, err = db.ByDate(r.o.Date.Unix())
	}
	if err == nil && !ok {
		err = fmt.Errorf("%w: %s", ErrNoTag, wanted)
	}
	return tag, err
}
