package manifest

import "errors"

// The reasons for which a repository is refused. Every error of [Trust.Verify]
// that is not the certificate source's own wraps one of them.
var (
	// ErrMalformed reports bytes that are not what they should be: cut
	// short, too long, or without a field that must be there.
	ErrMalformed = errors.New("malformed")
	// ErrSignature reports text that was changed after signing, or was
	// signed by a key that is not trusted.
	ErrSignature = errors.New("bad signature")
	// ErrUntrusted reports a certificate that the whitelist does not list.
	ErrUntrusted = errors.New("certificate is not on the whitelist")
	// ErrExpired reports a whitelist whose hour has come.
	ErrExpired = errors.New("whitelist has expired")
	// ErrName reports a name that no repository may have, or a document
	// that belongs to another repository.
	ErrName = errors.New("wrong repository name")
	// ErrBlacklisted reports a certificate or revision that the blacklist
	// withdraws.
	ErrBlacklisted = errors.New("blacklisted")
	// ErrRollback reports a manifest older than one seen before.
	ErrRollback = errors.New("repository went back in time")
)
