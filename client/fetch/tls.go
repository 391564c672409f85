package fetch

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxPEM bounds a file of certificates, in bytes.
const maxPEM = 4 << 20

// LoadTLS reads what https takes from PEM files: the CAs to trust instead of the
// system's, and the certificate and key to show to servers that ask. Each may
// be empty, but certificate and key only together; nil is what the system does.
func LoadTLS(ca, certificate, key string) (*tls.Config, error) {
	if ca == "" && certificate == "" && key == "" {
		return nil, nil //nolint:nilnil // documented
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := readPEM(ca)
		if err != nil {
			return nil, fmt.Errorf("CA certificates: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA certificates: %s holds no PEM certificate", ca)
		}
	}
	if (certificate == "") != (key == "") {
		return nil, errors.New("client certificate: name both the certificate and its key")
	}
	if certificate == "" {
		return c, nil
	}
	certPEM, err := readPEM(certificate)
	if err != nil {
		return nil, fmt.Errorf("client certificate: %w", err)
	}
	keyPEM, err := readPEM(key)
	if err != nil {
		return nil, fmt.Errorf("key of the client certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("client certificate %s with key %s: %w", certificate, key, err)
	}
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}

func readPEM(path string) ([]byte, error) {
	f, err := os.Open(path) // #nosec G304 -- the operator's
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxPEM {
		return nil, fmt.Errorf("%s: more than %d bytes", path, maxPEM)
	}
	return b, nil
}
