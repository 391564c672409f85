package serve

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"
)

// recheck is how often, at most, the certificate's files are looked at.
const recheck = 10 * time.Second

// TLS makes the configuration of a server with the certificate in two PEM
// files. A certificate that is renewed in place is taken up within seconds. With
// clientCA, a PEM file, only clients with a certificate of one of its
// authorities are let in.
func TLS(certFile, keyFile, clientCA string) (*tls.Config, error) {
	return newTLS(certFile, keyFile, clientCA, recheck)
}

func newTLS(certFile, keyFile, clientCA string, every time.Duration) (*tls.Config, error) {
	r := &renewed{certFile: certFile, keyFile: keyFile, every: every}
	if _, err := r.get(nil); err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: r.get}
	if clientCA == "" {
		return c, nil
	}
	text, err := os.ReadFile(clientCA)
	if err != nil {
		return nil, fmt.Errorf("client CA: %w", err)
	}
	c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !c.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("client CA %s: it holds no PEM certificate", clientCA)
	}
	return c, nil
}

// renewed is a certificate that may be replaced while the server runs.
type renewed struct {
	certFile, keyFile string
	every             time.Duration // between two looks at the files, at least

	mu      sync.Mutex
	cert    *tls.Certificate
	checked time.Time
	changed time.Time // of the newer file
}

func (r *renewed) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cert != nil && time.Since(r.checked) < r.every {
		return r.cert, nil
	}
	r.checked = time.Now()
	if err := r.load(); err != nil {
		if r.cert != nil { // half way through a renewal: the old one does
			return r.cert, nil
		}
		return nil, err
	}
	return r.cert, nil
}

func (r *renewed) load() error {
	var newest time.Time
	for _, file := range []string{r.certFile, r.keyFile} {
		info, err := os.Stat(file)
		if err != nil {
			return fmt.Errorf("TLS certificate: %w", err)
		}
		if info.ModTime().After(newest) {
			newest = info.ModTime()
		}
	}
	if r.cert != nil && newest.Equal(r.changed) {
		return nil
	}
	cert, err := tls.LoadX509KeyPair(r.certFile, r.keyFile)
	if err != nil {
		return fmt.Errorf("TLS certificate %s with key %s: %w", r.certFile, r.keyFile, err)
	}
	r.cert, r.changed = &cert, newest
	return nil
}
