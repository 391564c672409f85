package manifest

import (
	"bytes"
	"crypto/rsa"
	"fmt"
	"strings"
	"time"

	"github.com/rootstock-cf/rootstock/object"
)

// WhitelistValidity is how long a new whitelist is usually valid: what stock
// tools use.
const WhitelistValidity = 30 * 24 * time.Hour

// timeLayout prints the 14 digits of a whitelist's dates, in UTC.
const timeLayout = "20060102150405"

// maxFingerprints bounds a whitelist, since each fingerprint costs a hash of
// the certificate.
const maxFingerprints = 256

// Whitelist is the body of .cvmfswhitelist: which certificates may sign for a
// repository, and until when (CVMFS-FORMAT 1.4.1).
type Whitelist struct {
	Name         string
	Created      time.Time // printed only; a parser ignores it
	Expires      time.Time // exact to the hour, see Expired
	Fingerprints []object.Hash
}

// ParseWhitelist reads a whitelist's body. A line that is no fingerprint is
// ignored, as stock does, but a demand for another way of verifying (Vpkcs7,
// Wcachain), which no client can meet, is refused. Errors wrap [ErrMalformed].
func ParseWhitelist(body []byte) (Whitelist, error) {
	lines := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	if len(lines) < 3 {
		return Whitelist{}, fmt.Errorf("%w whitelist: %d lines", ErrMalformed, len(lines))
	}
	var w Whitelist
	if len(lines[0]) != len(timeLayout) {
		return Whitelist{}, fmt.Errorf("%w whitelist: line 1 is not a date", ErrMalformed)
	}
	w.Created, _ = time.Parse(timeLayout, lines[0]) //nolint:errcheck // its length is all that counts
	expiry, ok := strings.CutPrefix(lines[1], "E")
	if !ok || len(expiry) != len(timeLayout) {
		return Whitelist{}, fmt.Errorf("%w whitelist: line 2 is not an expiry date", ErrMalformed)
	}
	var err error
	if w.Expires, err = time.Parse(timeLayout, expiry); err != nil {
		return Whitelist{}, fmt.Errorf("%w whitelist: expiry date: %w", ErrMalformed, err)
	}
	if w.Name, ok = strings.CutPrefix(lines[2], "N"); !ok {
		return Whitelist{}, fmt.Errorf("%w whitelist: line 3 is not a repository name", ErrMalformed)
	}
	for _, line := range lines[3:] {
		if line == "--" {
			break
		}
		if line != "" && (line[0] == 'V' || line[0] == 'W') {
			return Whitelist{}, fmt.Errorf("%w whitelist: it demands %.20q, which cannot be verified; sign one without", ErrMalformed, line)
		}
		f, err := ParseFingerprint(line)
		if err != nil {
			continue
		}
		if len(w.Fingerprints) == maxFingerprints {
			return Whitelist{}, fmt.Errorf("%w whitelist: more than %d fingerprints", ErrMalformed, maxFingerprints)
		}
		w.Fingerprints = append(w.Fingerprints, f)
	}
	return w, nil
}

// Print returns the body as stock tools write it.
func (w Whitelist) Print() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nE%s\nN%s\n", w.Created.UTC().Format(timeLayout), w.Expires.UTC().Format(timeLayout), w.Name)
	for _, f := range w.Fingerprints {
		b.WriteString(FormatFingerprint(f))
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// Sign returns the whole document, signed with the master key.
func (w Whitelist) Sign(master *rsa.PrivateKey, a object.Algorithm) ([]byte, error) {
	if err := CheckName(w.Name); err != nil {
		return nil, fmt.Errorf("sign whitelist: %w", err)
	}
	if len(w.Fingerprints) == 0 || len(w.Fingerprints) > maxFingerprints {
		return nil, fmt.Errorf("sign whitelist of %s: %w: %d certificates, between 1 and %d can be listed",
			w.Name, ErrMalformed, len(w.Fingerprints), maxFingerprints)
	}
	body := w.Print()
	if _, err := ParseWhitelist(body); err != nil {
		return nil, fmt.Errorf("sign whitelist of %s: %w", w.Name, err)
	}
	raw, err := Seal(body, a, signText(master))
	if err != nil {
		return nil, fmt.Errorf("whitelist of %s: %w", w.Name, err)
	}
	return raw, nil
}

// OpenWhitelist takes a signed whitelist apart and verifies it: one of the
// master keys must have signed it. Name and expiry are for the caller to
// check. Errors wrap [ErrMalformed] or [ErrSignature].
func OpenWhitelist(raw []byte, masters []*rsa.PublicKey) (Whitelist, error) {
	e, err := Open(raw)
	if err != nil {
		return Whitelist{}, fmt.Errorf("whitelist: %w", err)
	}
	if len(masters) == 0 {
		return Whitelist{}, fmt.Errorf("whitelist: %w: there is no master public key to check it with; configure the repository's .pub file", ErrSignature)
	}
	for _, key := range masters {
		if err = e.verifyText(key); err == nil {
			return ParseWhitelist(e.Body)
		}
	}
	return Whitelist{}, fmt.Errorf("whitelist: %w: none of the %d master public keys signed it (%w); is the .pub file this repository's?",
		ErrSignature, len(masters), err)
}

// Expired reports whether w no longer counts at now. It counts up to the
// beginning of the hour that its expiry names: minutes and seconds are ignored
// on both sides, as in stock clients.
func (w Whitelist) Expired(now time.Time) bool { return !now.Before(w.End()) }

// End returns the moment from which on w does not count.
func (w Whitelist) End() time.Time { return w.Expires.UTC().Truncate(time.Hour) }

// Lists reports whether c is on the whitelist.
func (w Whitelist) Lists(c Certificate) bool { return names(w.Fingerprints, c.DER) }
