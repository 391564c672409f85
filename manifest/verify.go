package manifest

import (
	"context"
	"crypto/rsa"
	"fmt"
	"time"

	"github.com/rootstock-cf/rootstock/object"
)

// Trust is what a client believes in before it has seen anything: the master
// public keys of a repository, and what has been withdrawn since.
type Trust struct {
	Keys      []*rsa.PublicKey
	Blacklist Blacklist
}

// Verified is a manifest that has proved to be its repository's.
type Verified struct {
	Manifest Manifest
	// WhitelistEnd is the moment from which on the whitelist does not count.
	WhitelistEnd time.Time
}

// Verify checks that manifestRaw is a manifest of repository name, signed by a
// certificate that the whitelist, signed by a master key, lists at time now
// (CVMFS-FORMAT 1.5, steps 1 to 3 and 6 to 10). There is no short cut for a
// root catalog that is known already: every field is always authenticated.
//
// Cert returns a certificate object's plain content, its hash checked like
// that of every object; it is called once at most, and its error is returned
// wrapped. Whether the manifest is newer than the last one is for [Newer].
//
// The order is another than stock's, the outcome is the same: the whitelist
// comes first, and a certificate is neither parsed nor used to compute
// anything unless the whitelist lists it.
func (t Trust) Verify(ctx context.Context, name string, manifestRaw, whitelistRaw []byte,
	cert func(context.Context, object.Hash) ([]byte, error), now time.Time,
) (Verified, error) {
	envelope, err := Open(manifestRaw)
	if err != nil {
		return Verified{}, fmt.Errorf("%s: manifest: %w", name, err)
	}
	m, err := Parse(envelope.Body)
	if err != nil {
		return Verified{}, fmt.Errorf("%s: %w", name, err)
	}
	if m.Name != name {
		return Verified{}, fmt.Errorf("%s: %w: the manifest is that of %.80q; check name and address", name, ErrName, m.Name)
	}
	if m.Certificate.IsZero() {
		return Verified{}, fmt.Errorf("%s: %w manifest: it names no certificate", name, ErrMalformed)
	}

	w, err := t.whitelist(name, whitelistRaw, now)
	if err != nil {
		return Verified{}, err
	}

	text, err := cert(ctx, m.Certificate)
	if err != nil {
		return Verified{}, fmt.Errorf("%s: certificate %s: %w", name, m.Certificate, err)
	}
	der, err := decodeCertificate(text)
	if err != nil {
		return Verified{}, fmt.Errorf("%s: %w", name, err)
	}
	if t.Blacklist.Certificate(der) {
		return Verified{}, fmt.Errorf("%s: certificate %s is %w", name, m.Certificate, ErrBlacklisted)
	}
	if !names(w.Fingerprints, der) {
		return Verified{}, fmt.Errorf("%s: %w: %s (%d listed); after a change of keys, sign a new whitelist with the master key",
			name, ErrUntrusted, FormatFingerprint(m.Certificate.Algorithm.Sum(der)), len(w.Fingerprints))
	}
	key, err := certificateKey(der)
	if err != nil {
		return Verified{}, fmt.Errorf("%s: %w", name, err)
	}
	if err := envelope.verifyDigest(key); err != nil {
		return Verified{}, fmt.Errorf("%s: manifest: %w: the release key did not sign it: %w", name, ErrSignature, err)
	}
	if t.Blacklist.Revision(name, m.Revision) {
		return Verified{}, fmt.Errorf("%s: revision %d is %w", name, m.Revision, ErrBlacklisted)
	}
	return Verified{Manifest: m, WhitelistEnd: w.End()}, nil
}

// whitelist verifies the whitelist and that it is for name at now.
func (t Trust) whitelist(name string, raw []byte, now time.Time) (Whitelist, error) {
	w, err := OpenWhitelist(raw, t.Keys)
	if err != nil {
		return Whitelist{}, fmt.Errorf("%s: %w", name, err)
	}
	if w.Name != name {
		return Whitelist{}, fmt.Errorf("%s: %w: the whitelist is that of %.80q", name, ErrName, w.Name)
	}
	if w.Expired(now) {
		return Whitelist{}, fmt.Errorf("%s: %w at %s; its owner has to sign a new one with the master key",
			name, ErrExpired, w.End().Format(time.RFC3339))
	}
	return w, nil
}
