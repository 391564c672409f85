package trust

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // OpenSSL's name for a subject, no security in it
	"encoding/asn1"
	"encoding/binary"
	"slices"
	"unicode/utf16"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// subjectOf finds the subject in a certificate (RFC 5280 4.1). Package
// crypto/x509 would look at everything else as well, and cost each process of
// the plugin a tenth of its time for being linked into it.
func subjectOf(der []byte) ([]byte, bool) {
	in := cryptobyte.String(der)
	var cert, tbs, subject cryptobyte.String
	ok := in.ReadASN1(&cert, cbasn1.SEQUENCE) && in.Empty() &&
		cert.ReadASN1(&tbs, cbasn1.SEQUENCE) &&
		tbs.SkipOptionalASN1(cbasn1.Tag(0).Constructed().ContextSpecific()) && // version
		tbs.SkipASN1(cbasn1.INTEGER) && // serial number
		tbs.SkipASN1(cbasn1.SEQUENCE) && // signature's algorithm
		tbs.SkipASN1(cbasn1.SEQUENCE) && // issuer
		tbs.SkipASN1(cbasn1.SEQUENCE) && // validity
		tbs.ReadASN1Element(&subject, cbasn1.SEQUENCE) &&
		tbs.SkipASN1(cbasn1.SEQUENCE) && // key
		cert.SkipASN1(cbasn1.SEQUENCE) && cert.SkipASN1(cbasn1.BIT_STRING) && cert.Empty()
	return subject, ok && canonical(subject) != nil
}

// subjectHash is `openssl x509 -subject_hash`: the first bytes of the SHA-1 of
// the name in OpenSSL's canonical form, where text is UTF-8 in lower case with
// single spaces. A name that cannot be read hashes as nothing; subjectOf
// has read it before.
func subjectHash(rawSubject []byte) uint32 {
	sum := sha1.Sum(canonical(rawSubject)) // #nosec G401 -- see above
	return binary.LittleEndian.Uint32(sum[:4])
}

func canonical(rawSubject []byte) []byte {
	der := cryptobyte.String(rawSubject)
	var name, set cryptobyte.String
	if !der.ReadASN1(&name, cbasn1.SEQUENCE) {
		return nil
	}
	out := []byte{}
	for !name.Empty() {
		if !name.ReadASN1(&set, cbasn1.SET) {
			return nil
		}
		var members [][]byte
		for !set.Empty() {
			m, ok := attribute(&set)
			if !ok {
				return nil
			}
			members = append(members, m)
		}
		slices.SortFunc(members, bytes.Compare) // DER's order of a SET OF
		var b cryptobyte.Builder
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
			for _, m := range members {
				b.AddBytes(m)
			}
		})
		out = append(out, b.BytesOrPanic()...)
	}
	return out
}

// attribute reads one type and value and writes them in canonical form.
func attribute(set *cryptobyte.String) ([]byte, bool) {
	var member, oid, value cryptobyte.String
	var tag cbasn1.Tag
	if !set.ReadASN1(&member, cbasn1.SEQUENCE) || !member.ReadASN1Element(&oid, cbasn1.OBJECT_IDENTIFIER) ||
		!member.ReadAnyASN1(&value, &tag) {
		return nil, false
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(oid)
		if text, ok := utf8Of(tag, value); ok {
			b.AddASN1(cbasn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes(fold(text)) })
		} else {
			b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(value) })
		}
	})
	m, err := b.Bytes()
	return m, err == nil
}

// utf8Of converts the kinds of text that OpenSSL compares as text.
func utf8Of(tag cbasn1.Tag, v []byte) ([]byte, bool) {
	switch int(tag) {
	case asn1.TagUTF8String:
		return v, true
	case asn1.TagPrintableString, asn1.TagIA5String, asn1.TagT61String, 26: // 26 is VisibleString
		var out []byte
		for _, c := range v {
			out = append(out, string(rune(c))...)
		}
		return out, true
	case asn1.TagBMPString:
		if len(v)%2 != 0 {
			return nil, false
		}
		units := make([]uint16, len(v)/2)
		for i := range units {
			units[i] = binary.BigEndian.Uint16(v[2*i:])
		}
		return []byte(string(utf16.Decode(units))), true
	case 28: // UniversalString
		if len(v)%4 != 0 {
			return nil, false
		}
		var out []byte
		for i := 0; i < len(v); i += 4 {
			out = append(out, string(rune(binary.BigEndian.Uint32(v[i:])&0x1fffff))...) // #nosec G115 -- 21 bits
		}
		return out, true
	}
	return nil, false
}

// fold trims white space, makes runs of it one space and ASCII lower case.
func fold(text []byte) []byte {
	var out []byte
	gap := false
	for _, c := range text {
		switch {
		case c == ' ' || c >= '\t' && c <= '\r':
			gap = len(out) > 0
			continue
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		}
		if gap {
			out, gap = append(out, ' '), false
		}
		out = append(out, c)
	}
	return out
}
