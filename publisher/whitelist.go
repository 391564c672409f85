package publisher

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"time"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/store"
)

// whitelistWarning is how long before a whitelist's end every change of the
// repository says so.
const whitelistWarning = 10 * 24 * time.Hour

// readWhitelist reads the whitelist of st, without asking who signed it.
func readWhitelist(ctx context.Context, st store.Getter) (manifest.Whitelist, error) {
	raw, err := readRoot(ctx, st, whitelistFile, maxRootFile)
	if err != nil {
		return manifest.Whitelist{}, err
	}
	w, err := unsigned(raw)
	if err != nil {
		return w, fmt.Errorf("read %s: %w", whitelistFile, err)
	}
	return w, nil
}

func unsigned(raw []byte) (manifest.Whitelist, error) {
	e, err := manifest.Open(raw)
	if err != nil {
		return manifest.Whitelist{}, err
	}
	return manifest.ParseWhitelist(e.Body)
}

// remind warns of a whitelist that has run out or soon will.
func (p *Publisher) remind(h *head) {
	now, end := p.o.Now(), h.whitelist.End()
	switch {
	case h.whitelist.Expired(now):
		p.o.Log.Warn("the whitelist has expired: no cell will take new revisions until the master key has signed a new one (rootstock whitelist sign)",
			"repository", h.manifest.Name, "expired", end)
	case end.Sub(now) <= whitelistWarning:
		p.o.Log.Warn("the whitelist expires soon; the master key has to sign a new one before (rootstock whitelist sign)",
			"repository", h.manifest.Name, "expires", end, "days", int(end.Sub(now).Hours()/24))
	}
}

// Trusted says whose signature counts in a repository, and until when.
type Trusted struct {
	Whitelist manifest.Whitelist
	// Certificate is that of the newest manifest, Listed whether it is on
	// the whitelist.
	Certificate manifest.Certificate
	Listed      bool
}

// ReadTrusted reads the whitelist of st and the certificate of its manifest. It
// verifies no signature.
func ReadTrusted(ctx context.Context, st store.Getter) (*Trusted, error) {
	h, err := readHead(ctx, st)
	if err != nil {
		return nil, err
	}
	t := &Trusted{}
	if t.Whitelist, err = readWhitelist(ctx, st); err != nil {
		return nil, err
	}
	if t.Certificate, err = certificate(ctx, st, h); err != nil {
		return nil, err
	}
	t.Listed = t.Whitelist.Lists(t.Certificate)
	return t, nil
}

// certificate reads the one that signed the manifest, or should have.
func certificate(ctx context.Context, st store.Getter, h *head) (c manifest.Certificate, err error) {
	if h.manifest.Certificate.IsZero() {
		return c, fmt.Errorf("%s names no certificate", manifestFile)
	}
	var text bytes.Buffer
	if err := readObject(ctx, st, &text, h.manifest.Certificate, object.Certificate, maxSmall); err != nil {
		return c, err
	}
	return manifest.ParseCertificate(text.Bytes())
}

// InstallWhitelist replaces the repository's whitelist by raw, if that is for
// this repository, counts at now and lists the certificate that the manifest is
// signed with; and, unless masters is empty, if one of them signed it. It
// returns what was there before.
func InstallWhitelist(ctx context.Context, st store.Store, raw []byte, masters []*rsa.PublicKey, now time.Time) (was, is manifest.Whitelist, err error) {
	h, err := readHead(ctx, st)
	if err != nil {
		return was, is, err
	}
	if len(masters) > 0 {
		is, err = manifest.OpenWhitelist(raw, masters)
	} else {
		is, err = unsigned(raw)
	}
	if err != nil {
		return was, is, err
	}
	if is.Name != h.manifest.Name {
		return was, is, fmt.Errorf("%w: the whitelist is that of %.80q, the store holds %s", manifest.ErrName, is.Name, h.manifest.Name)
	}
	if is.Expired(now) {
		return was, is, fmt.Errorf("%w at %s; sign another one", manifest.ErrExpired, is.End().Format(time.RFC3339))
	}
	c, err := certificate(ctx, st, h)
	if err != nil {
		return was, is, err
	}
	if !is.Lists(c) {
		return was, is, fmt.Errorf("%w: the newest manifest is signed with %s; sign a whitelist that lists both the old certificate and the new one, install it, then rootstock resign",
			manifest.ErrUntrusted, manifest.FormatFingerprint(c.Fingerprint(h.settings.Algorithm)))
	}
	old, err := readRoot(ctx, st, whitelistFile, maxRootFile)
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		return was, is, err
	}
	if old != nil {
		was, _ = unsigned(old) //nolint:errcheck // a broken one is what this mends
	}
	if err := st.Swap(ctx, whitelistFile, old, raw); err != nil {
		return was, is, fmt.Errorf("write %s: %w", whitelistFile, err)
	}
	return was, is, nil
}

// Resign signs the newest revision's manifest anew with o.Keys, whose
// certificate must be on the whitelist: the second half of a change of keys.
// The manifest must carry a good signature of a certificate that is on it, too,
// unless force says that the operator knows the repository to be sound.
func Resign(ctx context.Context, o Options, force bool) (revision uint64, err error) {
	p := newPublisher(o)
	unlock, err := p.o.Store.Lock(ctx, owner("resign"))
	if err != nil {
		return 0, err
	}
	defer unlock() //nolint:errcheck // the lock ends with the process at the latest
	h, err := readHead(ctx, p.o.Store)
	if err != nil {
		return 0, err
	}
	if err := p.mayResign(ctx, h, force); err != nil {
		return 0, fmt.Errorf("resign %s: %w", h.manifest.Name, err)
	}
	p.remind(h)
	return h.manifest.Revision, p.seal(ctx, h, h.manifest, "resign", nil)
}

func (p *Publisher) mayResign(ctx context.Context, h *head, force bool) (err error) {
	if h.manifest.Name != p.o.Keys.Name {
		return fmt.Errorf("the keys are those of %s", p.o.Keys.Name)
	}
	if h.whitelist, err = readWhitelist(ctx, p.o.Store); err != nil {
		return err
	}
	if !h.whitelist.Lists(p.o.Keys.Certificate) {
		return fmt.Errorf("%w: the new one, %s; first rootstock whitelist sign --certificate OLD.crt --certificate NEW.crt with the master key, and rootstock whitelist install",
			manifest.ErrUntrusted, manifest.FormatFingerprint(p.o.Keys.Certificate.Fingerprint(h.settings.Algorithm)))
	}
	if force {
		return nil
	}
	old, err := certificate(ctx, p.o.Store, h)
	if err == nil && !h.whitelist.Lists(old) {
		err = fmt.Errorf("%w: the old one, %s", manifest.ErrUntrusted, manifest.FormatFingerprint(old.Fingerprint(h.settings.Algorithm)))
	}
	if err == nil {
		_, err = manifest.OpenSigned(h.raw, old)
	}
	if err != nil {
		return fmt.Errorf("what is there has no signature that counts, and would get one: compare it with a replica, then repeat with --force: %w", err)
	}
	return nil
}
