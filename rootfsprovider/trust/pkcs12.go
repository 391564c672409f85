package trust

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1" // #nosec G505 -- what the format has
	"crypto/sha256"
	"encoding/asn1"
	"hash"
	"slices"
	"unicode/utf16"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// maxIterations bounds what a tree can have the cell compute. Java has at most
// 100,000.
const maxIterations = 1 << 20

var (
	oidData         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidCertBag      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 3}
	oidX509         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 22, 1}
	oidFriendlyName = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 20}
	// Java trusts certificates that say for what, and this is for everything.
	oidTrusted = asn1.ObjectIdentifier{2, 16, 840, 1, 113894, 746875, 1, 1}
	oidAnyUse  = asn1.ObjectIdentifier{2, 5, 29, 37, 0}
	oidSHA1    = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidSHA256  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
)

var (
	context0 = cbasn1.Tag(0).ContextSpecific().Constructed()
	bmp      = cbasn1.Tag(asn1.TagBMPString)
)

// seal is MacData of RFC 7292: what shows that nobody without the password has
// changed the store.
type seal struct {
	algorithm cryptobyte.String // AlgorithmIdentifier
	hash      func() hash.Hash
	sum, salt []byte
	rounds    int
}

// addPKCS12 returns the keystore (RFC 7292) with the certificates in it: as
// one more part that is not encrypted, so that the others need not be read,
// and sealed anew. ok is false if it is none of this kind that can be added to.
func (s Set) addPKCS12(store []byte) (text []byte, ok bool) {
	in := cryptobyte.String(store)
	var pfx, info, oid, wrapped, safe, parts cryptobyte.String
	var version int
	if !in.ReadASN1(&pfx, cbasn1.SEQUENCE) || !in.Empty() || !pfx.ReadASN1Integer(&version) || version != 3 ||
		!pfx.ReadASN1(&info, cbasn1.SEQUENCE) || !info.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) || !isOID(oid, oidData) ||
		!info.ReadASN1(&wrapped, context0) || !info.Empty() ||
		!wrapped.ReadASN1(&safe, cbasn1.OCTET_STRING) || !wrapped.Empty() {
		return nil, false
	}
	var m *seal
	if !pfx.Empty() {
		if m, ok = readSeal(&pfx); !ok || !hmac.Equal(m.of(safe), m.sum) {
			return nil, false
		}
	}
	if !safe.ReadASN1(&parts, cbasn1.SEQUENCE) || !safe.Empty() {
		return nil, false
	}
	bags := s.bags(store)
	if bags == nil {
		return bytes.Clone(store), true
	}
	all, err := sequence(func(b *cryptobyte.Builder) {
		b.AddBytes(parts)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { data(b, bags) })
	})
	if err != nil {
		return nil, false
	}
	text, err = sequence(func(b *cryptobyte.Builder) {
		b.AddASN1Int64(3)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { data(b, all) })
		if m != nil {
			m.write(b, all)
		}
	})
	return text, err == nil
}

// bags are the certificates that the store does not have yet, as SafeContents;
// nil for none. Those that were added before can be seen by their names.
func (s Set) bags(store []byte) []byte {
	var missing []certificate
	for _, c := range s.certs {
		if !bytes.Contains(store, bmpOf(c.name())) {
			missing = append(missing, c)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	bags, err := sequence(func(b *cryptobyte.Builder) {
		for _, c := range missing {
			b.AddASN1(cbasn1.SEQUENCE, c.bag)
		}
	})
	if err != nil {
		return nil
	}
	return bags
}

// bag writes the fields of a SafeBag: a CertBag with a name.
func (c certificate) bag(b *cryptobyte.Builder) {
	attribute := func(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, value func(*cryptobyte.Builder)) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oid)
			b.AddASN1(cbasn1.SET, value)
		})
	}
	b.AddASN1ObjectIdentifier(oidCertBag)
	b.AddASN1(context0, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidX509)
			b.AddASN1(context0, func(b *cryptobyte.Builder) { b.AddASN1OctetString(c.raw) })
		})
	})
	b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
		attribute(b, oidFriendlyName, func(b *cryptobyte.Builder) {
			b.AddASN1(bmp, func(b *cryptobyte.Builder) { b.AddBytes(bmpOf(c.name())) })
		})
		attribute(b, oidTrusted, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidAnyUse) })
	})
}

// data writes the fields of a ContentInfo that is not encrypted.
func data(b *cryptobyte.Builder, content []byte) {
	b.AddASN1ObjectIdentifier(oidData)
	b.AddASN1(context0, func(b *cryptobyte.Builder) { b.AddASN1OctetString(content) })
}

func sequence(fields func(*cryptobyte.Builder)) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, fields)
	return b.Bytes()
}

func readSeal(in *cryptobyte.String) (*seal, bool) {
	m := &seal{rounds: 1}
	var mac, digest, rest, oid cryptobyte.String
	if !in.ReadASN1(&mac, cbasn1.SEQUENCE) || !in.Empty() || !mac.ReadASN1(&digest, cbasn1.SEQUENCE) ||
		!digest.ReadASN1Element(&m.algorithm, cbasn1.SEQUENCE) || !digest.ReadASN1Bytes(&m.sum, cbasn1.OCTET_STRING) || !digest.Empty() ||
		!mac.ReadASN1Bytes(&m.salt, cbasn1.OCTET_STRING) || len(m.salt) == 0 || len(m.salt) > 1024 ||
		!mac.Empty() && (!mac.ReadASN1Integer(&m.rounds) || !mac.Empty()) || m.rounds < 1 || m.rounds > maxIterations {
		return nil, false
	}
	algorithm := m.algorithm
	if !algorithm.ReadASN1(&rest, cbasn1.SEQUENCE) || !rest.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) {
		return nil, false
	}
	switch {
	case isOID(oid, oidSHA1):
		m.hash = sha1.New
	case isOID(oid, oidSHA256):
		m.hash = sha256.New
	default:
		return nil, false
	}
	return m, true
}

// of is the seal's sum of content. Its key is derived as RFC 7292 B.2 says; it
// is as long as a hash, so that one block is all there is.
func (m *seal) of(content []byte) []byte {
	h := m.hash()
	fill := func(part []byte) []byte { // to whole blocks
		n := (len(part) + h.BlockSize() - 1) / h.BlockSize() * h.BlockSize()
		return slices.Repeat(part, n/len(part)+1)[:n]
	}
	key := slices.Concat(bytes.Repeat([]byte{3}, h.BlockSize()), fill(m.salt), fill(append(bmpOf(javaPassword), 0, 0)))
	for range m.rounds {
		h.Reset()
		h.Write(key) //nolint:errcheck // a hash takes everything
		key = h.Sum(key[:0])
	}
	sum := hmac.New(m.hash, key)
	sum.Write(content) //nolint:errcheck // likewise
	return sum.Sum(nil)
}

// write writes the seal of content, made as the one before was.
func (m *seal) write(b *cryptobyte.Builder, content []byte) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(m.algorithm)
			b.AddASN1OctetString(m.of(content))
		})
		b.AddASN1OctetString(m.salt)
		b.AddASN1Int64(int64(m.rounds))
	})
}

// isOID compares the contents of an object identifier.
func isOID(have cryptobyte.String, want asn1.ObjectIdentifier) bool {
	var b cryptobyte.Builder
	b.AddASN1ObjectIdentifier(want)
	text := cryptobyte.String(b.BytesOrPanic())
	var contents cryptobyte.String
	return text.ReadASN1(&contents, cbasn1.OBJECT_IDENTIFIER) && bytes.Equal(have, contents)
}

// bmpOf is text in UTF-16, as PKCS12 has it.
func bmpOf(text string) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune(text)) {
		out = append(out, byte(u>>8), byte(u))
	}
	return out
}
