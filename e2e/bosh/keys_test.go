package bosh_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"sync"
	"testing"
	"time"
)

// pair is a key as CredHub makes it.
type pair struct{ private, public, certificate string }

var credhub = map[string]func() (pair, error){
	"release": sync.OnceValues(newPair), "release again": sync.OnceValues(newPair), "master": sync.OnceValues(newPair),
}

// key returns the variable of that name.
func key(t testing.TB, name string) pair {
	t.Helper()
	k, err := credhub[name]()
	must(t, err)
	return k
}

// newPair makes what CredHub's types rsa and certificate (self-signed) hold.
func newPair() (pair, error) {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return pair{}, err
	}
	public, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		return pair{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: repository},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		return pair{}, err
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return pair{
		text("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(k)), text("PUBLIC KEY", public), text("CERTIFICATE", certificate),
	}, nil
}
