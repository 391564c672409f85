package bosh_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"
)

// authority is a certificate authority as CredHub makes one.
type authority struct {
	key         *ecdsa.PrivateKey
	parsed      *x509.Certificate
	certificate string
}

var rootstockCA = sync.OnceValues(newAuthority)

func newAuthority() (authority, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "rootstock"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		return authority{}, err
	}
	parsed, err := x509.ParseCertificate(der)
	return authority{k, parsed, pemText("CERTIFICATE", der)}, err
}

// certificate is a variable of CredHub's type certificate that the authority has
// signed: for 127.0.0.1, both as server and as client.
func certificate(t testing.TB, name string) m {
	t.Helper()
	ca, err := rootstockCA()
	must(t, err)
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore:   time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.parsed, &k.PublicKey, ca.key)
	must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(k)
	must(t, err)
	return m{"certificate": pemText("CERTIFICATE", der), "private_key": pemText("PRIVATE KEY", private), "ca": ca.certificate}
}

// mutual are the properties of a stratum 0 that lets in cells only.
func mutual(t testing.TB) m {
	t.Helper()
	c := certificate(t, "stratum0")
	return m{"certificate": c["certificate"], "private_key": c["private_key"], "client_ca": c["ca"]}
}

func pemText(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
