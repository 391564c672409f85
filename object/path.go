package object

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Type is the letter behind a stored object's name that tells its kind
// (CVMFS-FORMAT 0.2). The zero value is the content of a regular file.
type Type byte

// The kinds of objects a repository holds.
const (
	Bulk        Type = 0   // a regular file's content, whole
	Partial     Type = 'P' // a chunk of a regular file's content
	Catalog     Type = 'C'
	History     Type = 'H'
	Certificate Type = 'X'
	Metainfo    Type = 'M'
)

// String names the kind in words fit for a message.
func (t Type) String() string {
	switch t {
	case Bulk:
		return "file"
	case Partial:
		return "chunk"
	case Catalog:
		return "catalog"
	case History:
		return "history"
	case Certificate:
		return "certificate"
	case Metainfo:
		return "metainfo"
	}
	return fmt.Sprintf("object type %q", byte(t))
}

// Path returns where an object lies below the repository's URL or directory:
// data/<2 digits>/<38 digits><algorithm suffix><type>.
func Path(h Hash, t Type) string {
	s := h.String()
	p := "data/" + s[:2] + "/" + s[2:]
	if t != Bulk {
		p += string(rune(t))
	}
	return p
}

// ParsePath is the inverse of [Path]. ok is false for anything Path would not
// have written.
func ParsePath(p string) (h Hash, t Type, ok bool) {
	rest, found := strings.CutPrefix(p, "data/")
	if !found || len(rest) < 2*DigestSize+1 || rest[2] != '/' {
		return Hash{}, 0, false
	}
	text := rest[:2] + rest[3:]
	if c := text[len(text)-1]; c >= 'A' && c <= 'Z' {
		t, text = Type(c), text[:len(text)-1]
		switch t {
		case Partial, Catalog, History, Certificate, Metainfo:
		default:
			return Hash{}, 0, false
		}
	}
	h, err := ParseHash(text)
	return h, t, err == nil
}

// ContentID names plain content on a cell and in a tree's listing: the
// SHA-256 of the uncompressed bytes. One name serves all repositories,
// compressions and versions (docs/design/content.md).
type ContentID [sha256.Size]byte

// ContentOf returns the name of b.
func ContentOf(b []byte) ContentID { return sha256.Sum256(b) }

// EmptyContent names content of no bytes.
var EmptyContent = ContentOf(nil)

// String returns 64 hex digits.
func (c ContentID) String() string { return hex.EncodeToString(c[:]) }

// IsZero reports whether c names nothing.
func (c ContentID) IsZero() bool { return c == ContentID{} }

// CachePath returns <2 digits>/<62 digits>: the content's place in a cell's
// cache, and where an EROFS metadata image redirects to.
func (c ContentID) CachePath() string {
	s := c.String()
	return s[:2] + "/" + s[2:]
}

// ParseContentID reads 64 lower-case hex digits.
func ParseContentID(s string) (ContentID, error) {
	var c ContentID
	if len(s) != 2*len(c) || s != strings.ToLower(s) {
		return c, fmt.Errorf("%w: content id %q is not 64 hex digits", ErrBadHash, s)
	}
	if _, err := hex.Decode(c[:], []byte(s)); err != nil {
		return ContentID{}, fmt.Errorf("%w: content id %q: %w", ErrBadHash, s, err)
	}
	return c, nil
}
