// Package manifest holds a repository's signed root files: the manifest that
// names one revision's root catalog, the whitelist that says whose signature
// counts, the certificate in between, and the keys.
//
// Trust flows from a master public key, which is all a cell has, to the
// whitelist it verifies, to the fingerprint of a certificate on it, to the
// manifest which that certificate's key signed, to the root catalog's hash,
// and from there by hash to everything else. [Trust.Verify] walks that way.
//
// Everything parsed here comes from the network: it is bounded first, and
// nothing in it counts before its signature has been checked.
package manifest

import (
	"bytes"
	"crypto/rsa"
	"fmt"
	"strconv"

	"github.com/rootstock-cf/rootstock/object"
)

const (
	// FileName is the manifest's name in a repository.
	FileName = ".cvmfspublished"
	// WhitelistName is the whitelist's name in a repository.
	WhitelistName = ".cvmfswhitelist"

	// rootPath is the MD5 of the empty string, the only value of R.
	rootPath = "d41d8cd98f00b204e9800998ecf8427e"
	// maxWritten is what stock programs read of a manifest on disk, in
	// bytes; a whole one has to stay below.
	maxWritten = 4096
)

// Manifest is the body of .cvmfspublished: one revision of a repository
// (CVMFS-FORMAT 1.2.1). A zero hash means that the line is absent.
type Manifest struct {
	RootCatalog        object.Hash // C
	CatalogSize        int64       // B, bytes of the root catalog, uncompressed
	TTL                uint32      // D, seconds until a client looks again
	Revision           uint64      // S, strictly increasing
	GarbageCollectable bool        // G
	AltPaths           bool        // A, .cvmfsalt- names exist
	Name               string      // N, the repository's fully qualified name
	Certificate        object.Hash // X
	History            object.Hash // H
	Published          int64       // T, seconds since 1970 UTC
	Metainfo           object.Hash // M
	Reflog             object.Hash // Y, of the raw file .cvmfsreflog
}

// Parse reads a manifest's body. Lines may come in any order, unknown letters
// are ignored, and of a repeated one the last counts, as in stock clients.
// Errors wrap [ErrMalformed].
func Parse(body []byte) (Manifest, error) {
	var m Manifest
	var have [256]bool
	var root string
	for line := range bytes.Lines(body) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		if len(line) == 0 {
			continue
		}
		if string(line) == "--" {
			break
		}
		letter, value := line[0], string(line[1:])
		var err error
		switch letter {
		case 'C':
			m.RootCatalog, err = object.ParseHash(value)
		case 'B':
			m.CatalogSize, err = decimal(value)
		case 'R':
			root = value
		case 'D':
			var ttl uint64
			ttl, err = strconv.ParseUint(value, 10, 32)
			m.TTL = uint32(ttl)
		case 'S':
			m.Revision, err = strconv.ParseUint(value, 10, 64)
		case 'G':
			m.GarbageCollectable = value == "yes"
		case 'A':
			m.AltPaths = value == "yes"
		case 'N':
			m.Name = value
		case 'X':
			m.Certificate, err = object.ParseHash(value)
		case 'H':
			m.History, err = object.ParseHash(value)
		case 'T':
			m.Published, err = decimal(value)
		case 'M':
			m.Metainfo, err = object.ParseHash(value)
		case 'Y':
			m.Reflog, err = object.ParseHash(value)
		}
		if err != nil {
			return Manifest{}, fmt.Errorf("%w manifest: line %c: %w", ErrMalformed, letter, err)
		}
		have[letter] = true
	}
	for _, letter := range []byte("CRDS") {
		if !have[letter] {
			return Manifest{}, fmt.Errorf("%w manifest: no line %c", ErrMalformed, letter)
		}
	}
	if root != rootPath {
		return Manifest{}, fmt.Errorf("%w manifest: root path %.40q is not the MD5 of the empty path", ErrMalformed, root)
	}
	return m, nil
}

// decimal reads a number that int64 holds and that has no sign.
func decimal(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err // #nosec G115 -- 63 bits
}

// Print returns the body as stock writers print it, line for line.
func (m Manifest) Print() []byte {
	var b bytes.Buffer
	line := func(letter byte, value string) {
		b.WriteByte(letter)
		b.WriteString(value)
		b.WriteByte('\n')
	}
	hash := func(letter byte, h object.Hash) {
		if !h.IsZero() {
			line(letter, h.String())
		}
	}
	flag := func(letter byte, set bool) {
		if set {
			line(letter, "yes")
		} else {
			line(letter, "no")
		}
	}
	line('C', m.RootCatalog.String())
	line('B', strconv.FormatInt(m.CatalogSize, 10))
	line('R', rootPath)
	line('D', strconv.FormatUint(uint64(m.TTL), 10))
	line('S', strconv.FormatUint(m.Revision, 10))
	flag('G', m.GarbageCollectable)
	flag('A', m.AltPaths)
	if m.Name != "" {
		line('N', m.Name)
	}
	hash('X', m.Certificate)
	hash('H', m.History)
	if m.Published > 0 {
		line('T', strconv.FormatInt(m.Published, 10))
	}
	hash('M', m.Metainfo)
	hash('Y', m.Reflog)
	return b.Bytes()
}

// Sign returns the whole document, signed with the key of the certificate
// that m names. The hash algorithm should be that of m.RootCatalog. A manifest
// that clients would refuse is not signed.
func (m Manifest) Sign(key *rsa.PrivateKey, a object.Algorithm) ([]byte, error) {
	if err := CheckName(m.Name); err != nil {
		return nil, fmt.Errorf("sign manifest: %w", err)
	}
	if m.Certificate.IsZero() {
		return nil, fmt.Errorf("sign manifest of %s: %w: it names no certificate", m.Name, ErrMalformed)
	}
	body := m.Print()
	// What was not printed, or printed so that it reads back differently
	// (a null root catalog, a negative size), must not be signed either.
	if back, err := Parse(body); err != nil {
		return nil, fmt.Errorf("sign manifest of %s: %w", m.Name, err)
	} else if back != m {
		return nil, fmt.Errorf("sign manifest of %s: %w: publish time %d", m.Name, ErrMalformed, m.Published)
	}
	raw, err := Seal(body, a, signDigest(key))
	if err != nil {
		return nil, fmt.Errorf("manifest of %s: %w", m.Name, err)
	}
	if len(raw) >= maxWritten {
		return nil, fmt.Errorf("sign manifest of %s: %w: %d bytes, stock programs read at most %d",
			m.Name, ErrMalformed, len(raw), maxWritten-1)
	}
	return raw, nil
}
