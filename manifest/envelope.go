package manifest

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha1" // #nosec G505 -- a format constant, not our choice
	"fmt"

	"github.com/rootstock-cf/rootstock/object"
)

const (
	// MaxSize bounds a signed document, in bytes, before it is looked at
	// (CVMFS-FORMAT 10.3).
	MaxSize = 64 << 10
	// maxHashText is the longest text form of a hash, in bytes.
	maxHashText = 2*object.DigestSize + len("-shake128")

	separator = "\n--\n"
)

// Envelope is a signed document taken apart: a manifest or a whitelist
// (CVMFS-FORMAT 1.2.2, 1.4.2). The slices alias what was opened.
type Envelope struct {
	// Body is what the hash covers: all lines, with the last one's newline.
	Body []byte
	// HashText is the hash of Body in text form. It, not Body, is what the
	// signature is over.
	HashText []byte
	// Signature is raw, to the end of the document.
	Signature []byte
}

// Open takes a signed document apart and checks that the hash it states is
// that of its body. The signature is for the caller to check. Errors are
// [ErrMalformed] or, for a body that the hash does not cover, [ErrSignature].
func Open(raw []byte) (Envelope, error) {
	if len(raw) > MaxSize {
		return Envelope{}, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrMalformed, len(raw), MaxSize)
	}
	i := bytes.Index(raw, []byte(separator))
	if i < 0 {
		return Envelope{}, fmt.Errorf("%w: no signature block", ErrMalformed)
	}
	rest := raw[i+len(separator):]
	j := bytes.IndexByte(rest, '\n')
	if j < 0 || j > maxHashText {
		return Envelope{}, fmt.Errorf("%w: no hash line in the signature block", ErrMalformed)
	}
	e := Envelope{Body: raw[: i+1 : i+1], HashText: rest[:j:j], Signature: rest[j+1:]}
	if len(e.Signature) == 0 {
		return Envelope{}, fmt.Errorf("%w: the signature is missing", ErrMalformed)
	}
	stated, err := object.ParseHash(string(e.HashText))
	if err != nil {
		return Envelope{}, fmt.Errorf("%w: signature block: %w", ErrMalformed, err)
	}
	if got := stated.Algorithm.Sum(e.Body); got != stated {
		return Envelope{}, fmt.Errorf("%w: the text hashes to %s, but %s was signed", ErrSignature, got, stated)
	}
	return e, nil
}

// Seal builds a signed document. Sign gets the text form of body's hash and
// returns the raw signature over it. Body must end with a newline and hold no
// line "--".
func Seal(body []byte, a object.Algorithm, sign func(text []byte) ([]byte, error)) ([]byte, error) {
	if !a.Valid() {
		return nil, fmt.Errorf("%w: cannot sign with hash %s", ErrMalformed, a)
	}
	if !bytes.HasSuffix(body, []byte("\n")) || bytes.HasPrefix(body, []byte(separator[1:])) ||
		bytes.Contains(body, []byte(separator)) {
		return nil, fmt.Errorf(`%w: text to sign must end with a newline and have no line "--"`, ErrMalformed)
	}
	text := []byte(a.Sum(body).String())
	sig, err := sign(text)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	out := make([]byte, 0, len(body)+len(separator)+len(text)+len(sig))
	out = append(out, body...)
	out = append(out, separator[1:]...)
	out = append(out, text...)
	out = append(out, '\n')
	out = append(out, sig...)
	if len(out) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes signed, at most %d are allowed", ErrMalformed, len(out), MaxSize)
	}
	return out, nil
}

// A manifest is signed like any SHA-1 digest with RSA: PKCS#1 v1.5 with a
// DigestInfo. A whitelist is not: its hash text is padded as it is, which Go
// calls hash 0. Mixing the two up is the format's second most harmful mistake
// (CVMFS-FORMAT 10.1).

func signDigest(key *rsa.PrivateKey) func([]byte) ([]byte, error) {
	return func(text []byte) ([]byte, error) {
		sum := sha1.Sum(text) // #nosec G401
		return rsa.SignPKCS1v15(nil, key, crypto.SHA1, sum[:])
	}
}

func signText(key *rsa.PrivateKey) func([]byte) ([]byte, error) {
	return func(text []byte) ([]byte, error) {
		return rsa.SignPKCS1v15(nil, key, crypto.Hash(0), text)
	}
}

func (e Envelope) verifyDigest(key *rsa.PublicKey) error {
	sum := sha1.Sum(e.HashText) // #nosec G401
	return rsa.VerifyPKCS1v15(key, crypto.SHA1, sum[:], e.Signature)
}

func (e Envelope) verifyText(key *rsa.PublicKey) error {
	return rsa.VerifyPKCS1v15(key, crypto.Hash(0), e.HashText, e.Signature)
}
