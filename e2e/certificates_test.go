package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writeCertificates writes an authority, ca.pem, certificates 0.pem and so on for
// n consecutive addresses, and one for clients, each with its .key.
func writeCertificates(t *testing.T, dir, prefix string, first, n int) string {
	t.Helper()
	dir = filepath.Join(dir, "certs")
	must(t, os.MkdirAll(dir, 0o755))
	ca := certificate(1, nil)
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	caKey := writeCertificate(t, dir, "ca", ca, ca, nil)
	for i := range n {
		writeCertificate(t, dir, fmt.Sprint(i), certificate(int64(2+i), net.ParseIP(fmt.Sprintf("%s%d", prefix, first+i))), ca, caKey)
	}
	writeCertificate(t, dir, "client", certificate(int64(2+n), nil), ca, caKey)
	return dir
}

func certificate(serial int64, ip net.IP) *x509.Certificate {
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: fmt.Sprint("test ", serial)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip != nil {
		c.IPAddresses = []net.IP{ip}
	}
	return c
}

// writeCertificate signs with the authority's key, or its own.
func writeCertificate(t *testing.T, dir, name string, c, ca *x509.Certificate, caKey *ecdsa.PrivateKey) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	if caKey == nil {
		caKey = key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, caKey)
	must(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	for file, block := range map[string]*pem.Block{
		name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: raw},
	} {
		must(t, os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600))
	}
	return key
}
