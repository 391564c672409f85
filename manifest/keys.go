package manifest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// KeyBits is the size of new RSA keys, in bits. Stock makes 2048; its clients
// and tools accept 4096 (CVMFS-FORMAT 10.3).
const KeyBits = 4096

// minNewKeyBits is the least that a new key may have.
const minNewKeyBits = 2048

// Keys are what a publisher signs with. The master key is not among them:
// publishing never needs it.
type Keys struct {
	Name        string // of the repository
	Release     *rsa.PrivateKey
	Certificate Certificate // carries Release's public key
	// Public is the master public key, nil where its file is not there.
	Public *rsa.PublicKey
}

// KeyOptions are what GenerateKeys can be told. The zero value is good.
type KeyOptions struct {
	// Bits is the size of both keys; 0 is KeyBits. Making keys of 4096 bits
	// takes seconds.
	Bits int
	// Now is the time from which the certificate is valid; zero is now.
	Now time.Time
}

// GenerateKeys makes the keys of a new repository. The master key is returned
// apart, since it should not stay where the others are.
func GenerateKeys(fqrn string, o KeyOptions) (*Keys, *rsa.PrivateKey, error) {
	if err := CheckName(fqrn); err != nil {
		return nil, nil, fmt.Errorf("generate keys: %w", err)
	}
	if o.Bits == 0 {
		o.Bits = KeyBits
	}
	if o.Bits < minNewKeyBits || o.Bits > maxKeyBits {
		return nil, nil, fmt.Errorf("generate keys of %s: %w: %d bits, between %d and %d are possible",
			fqrn, ErrMalformed, o.Bits, minNewKeyBits, maxKeyBits)
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	var made [2]*rsa.PrivateKey // at the same time: primes are a matter of luck and patience
	var group errgroup.Group
	for i := range made {
		group.Go(func() (err error) {
			made[i], err = rsa.GenerateKey(rand.Reader, o.Bits)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, fmt.Errorf("generate keys of %s: %w", fqrn, err)
	}
	master, release := made[0], made[1]
	certificate, err := NewCertificate(fqrn, release, o.Now)
	if err != nil {
		return nil, nil, err
	}
	return &Keys{Name: fqrn, Release: release, Certificate: certificate, Public: &master.PublicKey}, master, nil
}

var errNoKey = errors.New("holds no such key")

// parsePrivateKey reads the first private key in PEM text, which must be RSA.
func parsePrivateKey(text []byte) (*rsa.PrivateKey, error) {
	key, err := parseSigner(text)
	if err != nil {
		return nil, err
	}
	if key, ok := key.(*rsa.PrivateKey); ok {
		return key, nil
	}
	return nil, fmt.Errorf("is a %T; CernVM-FS signs with RSA only", key)
}

// parseSigner reads the first private key in PEM text, PKCS#1 or PKCS#8.
func parseSigner(text []byte) (crypto.Signer, error) {
	for rest := text; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			return nil, fmt.Errorf("%w: want a PEM block RSA PRIVATE KEY or PRIVATE KEY", errNoKey)
		}
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
			return nil, errors.New("is protected by a passphrase; write it in the clear with: openssl pkey -in FILE -out NEWFILE")
		case block.Type == "RSA PRIVATE KEY":
			key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
			if err != nil {
				return nil, err
			}
			return key, checkKeySize(&key.PublicKey)
		case block.Type == "PRIVATE KEY":
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, err
			}
			signer, ok := key.(crypto.Signer)
			if !ok {
				return nil, fmt.Errorf("is a %T, which signs nothing", key)
			}
			if key, ok := key.(*rsa.PrivateKey); ok {
				return key, checkKeySize(&key.PublicKey)
			}
			return signer, nil
		}
	}
}

// parsePublicKeys reads every public key in PEM text, which must be RSA.
func parsePublicKeys(text []byte) ([]*rsa.PublicKey, error) {
	all, err := parseVerifiers(text, false)
	if err != nil {
		return nil, err
	}
	keys := make([]*rsa.PublicKey, len(all))
	for i, key := range all {
		pub, ok := key.(*rsa.PublicKey)
		if !ok {
			return nil, fmt.Errorf("is a %T; CernVM-FS verifies with RSA only", key)
		}
		keys[i] = pub
	}
	return keys, nil
}

// parseVerifiers reads every public key in PEM text and, if they are asked for,
// those of certificates.
func parseVerifiers(text []byte, certificates bool) ([]crypto.PublicKey, error) {
	var keys []crypto.PublicKey
	for rest := text; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		var key crypto.PublicKey
		switch {
		case block.Type == "PUBLIC KEY":
			var err error
			if key, err = x509.ParsePKIXPublicKey(block.Bytes); err != nil {
				return nil, err
			}
		case block.Type == "CERTIFICATE" && certificates:
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, err
			}
			key = c.PublicKey
		default:
			continue
		}
		if pub, ok := key.(*rsa.PublicKey); ok {
			if err := checkKeySize(pub); err != nil {
				return nil, err
			}
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: want a PEM block PUBLIC KEY", errNoKey)
	}
	return keys, nil
}

func marshalPrivateKey(key *rsa.PrivateKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
}

func marshalPublicKey(key *rsa.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}
