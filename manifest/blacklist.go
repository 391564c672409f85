package manifest

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/rootstock-cf/rootstock/object"
)

// Blacklist withdraws certificates and revisions without the master key's
// help (CVMFS-FORMAT 1.4.5). The zero value withdraws nothing.
type Blacklist struct {
	fingerprints []object.Hash
	below        map[string]uint64
}

// ParseBlacklist reads a blacklist: a line is a certificate's fingerprint, or
// "<", a repository's name, a blank and a revision below which it is refused;
// what follows '#' is a comment. Stock ignores a line it cannot read; since a
// misspelt line would withdraw nothing and nobody would notice, it is an
// error here, [ErrMalformed] with the line's number.
func ParseBlacklist(text []byte) (Blacklist, error) {
	var b Blacklist
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if rule, ok := strings.CutPrefix(line, "<"); ok {
			fields := strings.Fields(rule)
			if len(fields) != 2 {
				return Blacklist{}, fmt.Errorf("%w blacklist: line %d: want <repository revision", ErrMalformed, number)
			}
			if err := CheckName(fields[0]); err != nil {
				return Blacklist{}, fmt.Errorf("%w blacklist: line %d: %w", ErrMalformed, number, err)
			}
			revision, err := strconv.ParseUint(fields[1], 10, 64)
			if err != nil {
				return Blacklist{}, fmt.Errorf("%w blacklist: line %d: revision: %w", ErrMalformed, number, err)
			}
			if b.below == nil {
				b.below = make(map[string]uint64)
			}
			b.below[fields[0]] = max(b.below[fields[0]], revision)
			continue
		}
		f, err := ParseFingerprint(line)
		if err != nil {
			return Blacklist{}, fmt.Errorf("%w blacklist: line %d: %w", ErrMalformed, number, err)
		}
		b.fingerprints = append(b.fingerprints, f)
	}
	return b, nil
}

// Certificate reports whether the certificate with this DER form is withdrawn.
func (b Blacklist) Certificate(der []byte) bool { return names(b.fingerprints, der) }

// Revision reports whether this revision of repository fqrn is withdrawn.
func (b Blacklist) Revision(fqrn string, revision uint64) bool { return revision < b.below[fqrn] }
