package trust

import (
	"bytes"
	"crypto/sha1" // #nosec G505 -- what the format has
	"encoding/binary"
	"errors"
	"io/fs"
)

const (
	javaStore = "/etc/ssl/certs/java/cacerts"
	// javaPassword is the one that every Java knows; it guards nothing.
	javaPassword = "changeit"

	javaMagic   = 0xfeedfeed // JKS
	javaVersion = 2
	javaHeader  = 12 // bytes: magic, version, number of entries
	javaCert    = 2  // an entry that is a trusted certificate
	maxJava     = 32 << 20
)

// installJava adds the certificates to the keystore that Debian's
// ca-certificates-java keeps, JKS or, as every Java since 9 makes them, PKCS12,
// sealed with the usual password or not at all. Any other is left as it is, for
// it has its own owner: left says so. A tree may be without.
func (s Set) installJava(t *tree) (left string, err error) {
	name, err := t.resolve(javaStore)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	have, err := t.read(name, maxJava)
	if err != nil {
		return "", err
	}
	text, ok := s.addJKS(have)
	if !ok {
		text, ok = s.addPKCS12(have)
	}
	if !ok {
		return javaStore + " is neither JKS nor PKCS12 with the usual password", nil
	}
	return "", t.write(name, text)
}

// addJKS returns the keystore with the certificates in it. ok is false if it
// is none of this kind that can be added to.
func (s Set) addJKS(store []byte) (text []byte, ok bool) {
	end := len(store) - sha1.Size
	if end < javaHeader || binary.BigEndian.Uint32(store) != javaMagic || binary.BigEndian.Uint32(store[4:]) != javaVersion {
		return nil, false
	}
	if sum := sealJava(store[:end]); !bytes.Equal(sum, store[end:]) {
		return nil, false
	}
	out := bytes.Clone(store[:end])
	n := binary.BigEndian.Uint32(out[8:])
	for _, c := range s.certs {
		alias := utf(c.name())
		if bytes.Contains(store, alias) {
			continue
		}
		out = binary.BigEndian.AppendUint32(out, javaCert)
		out = append(out, alias...)
		out = binary.BigEndian.AppendUint64(out, 0) // when it was added: the same bytes every time
		out = append(out, utf("X.509")...)
		out = binary.BigEndian.AppendUint32(out, uint32(len(c.raw))) // #nosec G115 -- bounded by Parse's caller
		out = append(out, c.raw...)
		n++
	}
	binary.BigEndian.PutUint32(out[8:], n)
	return append(out, sealJava(out)...), true
}

// sealJava is what stands at the end of a JKS.
func sealJava(text []byte) []byte {
	h := sha1.New()                     // #nosec G401 -- likewise
	h.Write(bmpOf(javaPassword))        //nolint:errcheck // a hash takes everything
	h.Write([]byte("Mighty Aphrodite")) //nolint:errcheck // likewise
	h.Write(text)                       //nolint:errcheck // likewise
	return h.Sum(nil)
}

// utf is a string as java.io.DataOutput has it, for ASCII.
func utf(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) // #nosec G115 -- names of ours
}
