package manifest

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/rootstock-cf/rootstock/object"
)

// certificateYears is how long a new certificate says it is valid. No client
// looks at the dates, and nothing renews a certificate on its own: trust ends
// with the whitelist, every month. Stock writes one year; a date that passes
// unnoticed after one year only alarms people, so ours lies further away.
const certificateYears = 10

// maxKeyBits bounds an RSA modulus, since verifying costs its cube.
// minKeyBits is what Go's crypto/rsa still verifies; old repositories have it.
const (
	minKeyBits = 1024
	maxKeyBits = 16384
)

// Certificate is the release certificate: the carrier of the public key that
// verifies manifests, trusted because its fingerprint is on the whitelist and
// for no other reason. No chain is ever verified and no date checked
// (CVMFS-FORMAT 1.4.3, 10.1).
type Certificate struct {
	// PEM is the certificate object's plain content, the .crt file.
	PEM []byte
	// DER is what fingerprints are over.
	DER []byte
	// Key verifies manifests.
	Key *rsa.PublicKey
}

// decodeCertificate finds the DER form in PEM text without interpreting it.
func decodeCertificate(text []byte) ([]byte, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("certificate: %w: %d bytes, at most %d are allowed", ErrMalformed, len(text), MaxSize)
	}
	for rest := text; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			return nil, fmt.Errorf("certificate: %w: no PEM block CERTIFICATE", ErrMalformed)
		}
		if block.Type == "CERTIFICATE" {
			return block.Bytes, nil
		}
	}
}

// ParseCertificate reads PEM text, the plain content of a certificate object.
// Errors wrap [ErrMalformed].
func ParseCertificate(text []byte) (Certificate, error) {
	der, err := decodeCertificate(text)
	if err != nil {
		return Certificate{}, err
	}
	key, err := certificateKey(der)
	if err != nil {
		return Certificate{}, err
	}
	return Certificate{PEM: bytes.Clone(text), DER: der, Key: key}, nil
}

func certificateKey(der []byte) (*rsa.PublicKey, error) {
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w: %w", ErrMalformed, err)
	}
	key, ok := parsed.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("certificate: %w: its key is %s, only RSA can sign a manifest",
			ErrMalformed, parsed.PublicKeyAlgorithm)
	}
	if err := checkKeySize(key); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return key, nil
}

func checkKeySize(key *rsa.PublicKey) error {
	if n := key.N.BitLen(); n < minKeyBits || n > maxKeyBits {
		return fmt.Errorf("%w: RSA key of %d bits, between %d and %d are accepted", ErrMalformed, n, minKeyBits, maxKeyBits)
	}
	return nil
}

// NewCertificate makes a self-signed certificate for the release key of
// repository fqrn, with the subject that stock tools give it.
func NewCertificate(fqrn string, key *rsa.PrivateKey, now time.Time) (Certificate, error) {
	if err := CheckName(fqrn); err != nil {
		return Certificate{}, fmt.Errorf("make certificate: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return Certificate{}, fmt.Errorf("make certificate of %s: %w", fqrn, err)
	}
	subject := fqrn
	if len(subject) > 30 { // X.509 allows 64 characters in all
		subject = subject[:30] + "[...]"
	}
	template := &x509.Certificate{
		SerialNumber:          serial.Add(serial, big.NewInt(1)),
		Subject:               pkix.Name{CommonName: subject + " CernVM-FS Release Managers"},
		NotBefore:             now.UTC(),
		NotAfter:              now.UTC().AddDate(certificateYears, 0, 0),
		SignatureAlgorithm:    x509.SHA256WithRSA,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return Certificate{}, fmt.Errorf("make certificate of %s: %w", fqrn, err)
	}
	return Certificate{
		PEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		DER: der, Key: &key.PublicKey,
	}, nil
}

// Fingerprint returns the hash by which whitelists and blacklists name c.
func (c Certificate) Fingerprint(a object.Algorithm) object.Hash { return a.Sum(c.DER) }

// FormatFingerprint prints a fingerprint as a whitelist holds it: upper-case
// hex pairs with colons between, and the algorithm unless it is SHA-1
// (CVMFS-FORMAT 1.4.1).
func FormatFingerprint(h object.Hash) string {
	var b strings.Builder
	for i, c := range h.Digest {
		if i > 0 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02X", c)
	}
	b.WriteString(strings.ToUpper(h.Algorithm.Suffix()))
	return b.String()
}

// ParseFingerprint reads a fingerprint up to the first blank, tab or '#', in
// either case and with or without colons, as stock does. Errors wrap
// [object.ErrBadHash].
func ParseFingerprint(line string) (object.Hash, error) {
	if i := strings.IndexAny(line, " \t#"); i >= 0 {
		line = line[:i]
	}
	if len(line) > 2*maxHashText {
		return object.Hash{}, fmt.Errorf("%w: fingerprint of %d characters", object.ErrBadHash, len(line))
	}
	text := strings.ToLower(strings.ReplaceAll(line, ":", ""))
	h, err := object.ParseHash(text)
	if err != nil {
		return object.Hash{}, fmt.Errorf("fingerprint: %w", err)
	}
	return h, nil
}

// names reports whether one of the fingerprints is that of the certificate
// der. Each is compared with the hash algorithm it was written with.
func names(fingerprints []object.Hash, der []byte) bool {
	for _, f := range fingerprints {
		if f.Algorithm.Valid() && f.Algorithm.Sum(der) == f {
			return true
		}
	}
	return false
}
