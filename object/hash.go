// Package object is the vocabulary of everything stored in a repository: the
// hash that names an object, the letter that tells its kind, the path both
// make, and the codec its bytes went through.
//
// An object's name is the hash of its stored bytes, that is, after
// compression (CVMFS-FORMAT 0.3). What a cell calls content is something
// else: the SHA-256 of the plain bytes, see [ContentID].
//
// The package does no I/O beyond io.Reader and io.Writer and imports nothing
// of this module.
package object

import (
	"crypto/sha1" // #nosec G505 -- a format constant, not our choice
	"crypto/sha3"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"

	"golang.org/x/crypto/ripemd160" //nolint:staticcheck // a format constant, not our choice
)

// DigestSize is the length in bytes of every digest that names an object.
const DigestSize = 20

// ErrBadHash reports text that is not a hash in the form of CVMFS-FORMAT 0.1.
var ErrBadHash = errors.New("malformed hash")

// Algorithm is a hash algorithm with the id CernVM-FS gives it (CVMFS-FORMAT
// 0.1). The zero value is no algorithm.
type Algorithm uint8

// The algorithms that may name content. MD5, id 0, only ever names paths.
const (
	SHA1     Algorithm = 1
	RMD160   Algorithm = 2
	SHAKE128 Algorithm = 3
)

// ParseAlgorithm reads a name as the command line spells it: sha1, rmd160 or
// shake128.
func ParseAlgorithm(name string) (Algorithm, error) {
	for _, a := range []Algorithm{SHA1, RMD160, SHAKE128} {
		if a.String() == name {
			return a, nil
		}
	}
	return 0, fmt.Errorf("hash algorithm %q is not one of shake128, sha1, rmd160", name)
}

// String returns the command line's name of a.
func (a Algorithm) String() string {
	switch a {
	case SHA1:
		return "sha1"
	case RMD160:
		return "rmd160"
	case SHAKE128:
		return "shake128"
	}
	return fmt.Sprintf("algorithm %d", uint8(a))
}

// Suffix is what follows the hex digits in the text form: nothing for SHA-1.
func (a Algorithm) Suffix() string {
	switch a {
	case RMD160:
		return "-rmd160"
	case SHAKE128:
		return "-shake128"
	}
	return ""
}

// Valid reports whether a is one of the three algorithms that name content.
func (a Algorithm) Valid() bool { return a >= SHA1 && a <= SHAKE128 }

// New returns a running hash whose Sum is DigestSize bytes long. It panics
// for an algorithm that is not [Algorithm.Valid].
func (a Algorithm) New() hash.Hash {
	switch a {
	case SHA1:
		return sha1.New() // #nosec G401
	case RMD160:
		return ripemd160.New() // #nosec G406
	case SHAKE128:
		return &shake{sha3.NewSHAKE128()}
	}
	panic("object: New of " + a.String())
}

// Sum hashes b in one call.
func (a Algorithm) Sum(b []byte) Hash {
	h := a.New()
	h.Write(b) //nolint:errcheck // a hash.Hash never fails
	return FromSum(a, h)
}

// shake makes the extendable output of SHAKE-128 look like a hash of 160 bits.
type shake struct{ *sha3.SHAKE }

func (s *shake) Size() int { return DigestSize }

func (s *shake) Sum(b []byte) []byte {
	c := *s.SHAKE // reading an XOF changes it; Sum must not
	var d [DigestSize]byte
	c.Read(d[:]) //nolint:errcheck // an XOF never fails
	return append(b, d[:]...)
}

// Hash names an object: algorithm and digest. It is comparable; the zero
// value is the null hash, which names nothing.
type Hash struct {
	Algorithm Algorithm
	Digest    [DigestSize]byte
}

// FromSum takes the digest of a running hash made by a.New.
func FromSum(a Algorithm, h hash.Hash) Hash {
	r := Hash{Algorithm: a}
	h.Sum(r.Digest[:0])
	return r
}

// FromDigest builds a hash from the raw bytes a catalog row holds.
func FromDigest(a Algorithm, digest []byte) (Hash, error) {
	r := Hash{Algorithm: a}
	if !a.Valid() || len(digest) != DigestSize {
		return Hash{}, fmt.Errorf("%w: %s with %d bytes", ErrBadHash, a, len(digest))
	}
	copy(r.Digest[:], digest)
	return r, nil
}

// ParseHash reads the text form: 40 lower-case hex digits and the algorithm's
// suffix. The kind of object is never part of it.
func ParseHash(s string) (Hash, error) {
	digits, suffix := s, ""
	if i := strings.IndexByte(s, '-'); i >= 0 {
		digits, suffix = s[:i], s[i:]
	}
	for _, a := range []Algorithm{SHA1, RMD160, SHAKE128} {
		if a.Suffix() != suffix {
			continue
		}
		h := Hash{Algorithm: a}
		if len(digits) == 2*DigestSize && digits == strings.ToLower(digits) {
			if _, err := hex.Decode(h.Digest[:], []byte(digits)); err == nil {
				return h, nil
			}
		}
	}
	return Hash{}, fmt.Errorf("%w %q", ErrBadHash, s)
}

// IsZero reports whether h is the null hash.
func (h Hash) IsZero() bool { return h == Hash{} }

// String returns the text form, the empty string for the null hash.
func (h Hash) String() string {
	if h.IsZero() {
		return ""
	}
	return hex.EncodeToString(h.Digest[:]) + h.Algorithm.Suffix()
}
