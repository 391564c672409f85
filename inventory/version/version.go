// Package version compares version numbers as the ecosystem they come from
// does: Debian's dpkg, Alpine's apk, npm, Python, Ruby gems, Maven and Go each
// have an order of their own, and none is another's.
//
// Text in, an order out; the package does no I/O. Versions come from package
// databases of images and from advisories, so they are hostile: they are
// bounded, and one that its ecosystem would not accept is [ErrInvalid], never
// a guess.
package version

import (
	"errors"
	"fmt"
)

// MaxLen is the most bytes a version may have.
const MaxLen = 512

// ErrInvalid reports text that is not a version in its ecosystem.
var ErrInvalid = errors.New("not a version")

// Scheme is an ecosystem's order of versions.
type Scheme string

// The schemes. Loose is for what has no rules of its own, such as the
// dependencies of a buildpack: numbers as numbers, letters before the release.
const (
	Dpkg  Scheme = "dpkg"
	APK   Scheme = "apk"
	NPM   Scheme = "npm"
	PEP   Scheme = "pep440"
	Gem   Scheme = "gem"
	Maven Scheme = "maven"
	Go    Scheme = "go"
	Loose Scheme = "loose"
)

// Version is a parsed version, to be compared with others of its scheme.
type Version struct {
	scheme Scheme
	text   string
	key    ordered
}

// ordered is what a scheme makes of a version's text. Comparing with another
// scheme's is a programming error.
type ordered interface {
	compare(other ordered) int
}

// Parse reads text in scheme s. Its errors wrap [ErrInvalid].
func Parse(s Scheme, text string) (Version, error) {
	if len(text) > MaxLen {
		return Version{}, fmt.Errorf("%w: %d bytes, more than %d", ErrInvalid, len(text), MaxLen)
	}
	var key ordered
	var ok bool
	switch s {
	case Dpkg:
		key, ok = parseDpkg(text)
	case APK:
		key, ok = parseAPK(text)
	case NPM, Go:
		key, ok = parseSemver(text)
	case PEP:
		key, ok = parsePEP(text)
	case Gem:
		key, ok = parseGem(text)
	case Maven:
		key, ok = parseMaven(text)
	case Loose:
		key, ok = parseLoose(text)
	default:
		return Version{}, fmt.Errorf("%w: no order of versions is called %q", ErrInvalid, s)
	}
	if !ok {
		return Version{}, fmt.Errorf("%w: %q is none as %s has them", ErrInvalid, text, s)
	}
	return Version{s, text, key}, nil
}

// String returns the text that was parsed.
func (v Version) String() string { return v.text }

// Compare returns -1, 0 or 1. Both versions must be of one scheme; it panics
// otherwise.
func (v Version) Compare(w Version) int {
	if v.scheme != w.scheme {
		panic("version: compared across schemes: " + string(v.scheme) + ", " + string(w.scheme))
	}
	return v.key.compare(w.key)
}

// Compare parses and compares two versions.
func Compare(s Scheme, a, b string) (int, error) {
	v, err := Parse(s, a)
	if err != nil {
		return 0, err
	}
	w, err := Parse(s, b)
	if err != nil {
		return 0, err
	}
	return v.Compare(w), nil
}
