package attest

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
)

// ErrKey reports a key that no statement can be signed with.
var ErrKey = errors.New("statements are signed with Ed25519 or RSA")

// Key verifies what its signer signed.
type Key struct {
	// ID is the SHA-256 of the public key (SubjectPublicKeyInfo, DER), 64 hex
	// digits.
	ID     string
	public crypto.PublicKey
}

// KeyOf returns the key for an ed25519.PublicKey or *rsa.PublicKey; any other
// is [ErrKey].
func KeyOf(public crypto.PublicKey) (Key, error) {
	switch public.(type) {
	case ed25519.PublicKey, *rsa.PublicKey:
	default:
		return Key{}, fmt.Errorf("%w, this key is a %T", ErrKey, public)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	sum := sha256.Sum256(der)
	return Key{hex.EncodeToString(sum[:]), public}, nil
}

// verify checks a signature: Ed25519 as it is, RSA as PKCS #1 v1.5 with
// SHA-256, which is what openssl and most DSSE tools make of an RSA key.
func (k Key) verify(text, signature []byte) bool {
	switch public := k.public.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(public, text, signature)
	case *rsa.PublicKey:
		sum := sha256.Sum256(text)
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature) == nil
	}
	return false
}

// Signer signs statements.
type Signer struct {
	Key
	private crypto.Signer
}

// NewSigner returns a signer for an ed25519.PrivateKey or *rsa.PrivateKey; any
// other is [ErrKey].
func NewSigner(private crypto.Signer) (*Signer, error) {
	k, err := KeyOf(private.Public())
	if err != nil {
		return nil, err
	}
	return &Signer{k, private}, nil
}

func (s *Signer) sign(text []byte) ([]byte, error) {
	if _, ok := s.public.(ed25519.PublicKey); ok {
		return s.private.Sign(rand.Reader, text, crypto.Hash(0))
	}
	sum := sha256.Sum256(text)
	return s.private.Sign(rand.Reader, sum[:], crypto.SHA256)
}
