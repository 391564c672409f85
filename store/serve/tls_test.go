package serve_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/serve"
)

// authority issues certificates into a directory.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir, name string) *authority {
	t.Helper()
	a := &authority{dir: dir}
	a.cert, a.key = a.issue(t, name, true)
	return a
}

// issue writes name.crt and name.key.
func (a *authority) issue(t *testing.T, name string, isCA bool) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: isCA, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	parent, parentKey := template, key
	if a.cert != nil {
		parent, parentKey = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".crt": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "EC PRIVATE KEY", Bytes: raw},
	} {
		if err := os.WriteFile(filepath.Join(a.dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func serveTLS(t *testing.T, c *tls.Config) string {
	t.Helper()
	_, s := fixture(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	server := &serve.Server{Handler: serve.Handler(map[string]store.Getter{fqrn: s}, quiet()), Log: quiet(), Grace: time.Minute, TLS: c}
	go func() { ended <- server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return "https://" + l.Addr().String()
}

// ask returns the manifest, or why there is none.
func ask(base string, ca *authority, cert ...string) (string, error) {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	config := &tls.Config{RootCAs: pool}
	if len(cert) > 0 {
		pair, err := tls.LoadX509KeyPair(cert[0]+".crt", cert[0]+".key")
		if err != nil {
			return "", err
		}
		// Not Certificates, of which none is shown that the server did not ask
		// for.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(base + "/.cvmfspublished")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return fmt.Sprintf("%s %s", resp.Proto, b), err
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	stranger := newAuthority(t, t.TempDir(), "stranger")
	ca.issue(t, "server", false)
	ca.issue(t, "cell", false)
	stranger.issue(t, "cell", false)
	file := func(name string) string { return filepath.Join(dir, name) }
	c, err := serve.TLS(file("server.crt"), file("server.key"), "")
	if err != nil {
		t.Fatal(err)
	}
	base := serveTLS(t, c)
	if got, err := ask(base, ca); err != nil || got != "HTTP/2.0 manifest" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := ask(base, stranger); err == nil {
		t.Error("a client trusts a stranger: the test proves nothing")
	}
	if c, err = serve.TLS(file("server.crt"), file("server.key"), file("ca.crt")); err != nil {
		t.Fatal(err)
	}
	base = serveTLS(t, c)
	if got, err := ask(base, ca, file("cell")); err != nil || got != "HTTP/2.0 manifest" {
		t.Errorf("with a certificate: %q, %v", got, err)
	}
	if got, err := ask(base, ca); err == nil {
		t.Errorf("without a certificate: %q", got)
	}
	if got, err := ask(base, ca, filepath.Join(stranger.dir, "cell")); err == nil {
		t.Errorf("with a stranger's certificate: %q", got)
	}
}

// A certificate that is renewed in place is taken up; while only half of it is
// there, the old one does.
func TestTLSRenewed(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	file := func(name string) string { return filepath.Join(dir, name) }
	shown := func(c *tls.Config) string {
		t.Helper()
		cert, err := c.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return string(cert.Certificate[0])
	}
	first, _ := ca.issue(t, "server", false)
	often, err := serve.TLSChecked(file("server.crt"), file("server.key"), 0)
	if err != nil {
		t.Fatal(err)
	}
	seldom, err := serve.TLSChecked(file("server.crt"), file("server.key"), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if shown(often) != string(first.Raw) {
		t.Error("another certificate is shown")
	}
	key, err := os.ReadFile(file("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	second, _ := ca.issue(t, "server", false)
	later := time.Now().Add(time.Minute) // than any tick of the file system's clock
	newKey, err := os.ReadFile(file("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, half := range []struct {
		key  []byte
		want []byte
	}{{key, first.Raw}, {newKey, second.Raw}} {
		if err := os.WriteFile(file("server.key"), half.key, 0o600); err != nil {
			t.Fatal(err)
		}
		later = later.Add(time.Minute)
		if err := os.Chtimes(file("server.key"), later, later); err != nil {
			t.Fatal(err)
		}
		if shown(often) != string(half.want) {
			t.Errorf("with a key of %d bytes the wrong certificate is shown", len(half.key))
		}
	}
	if shown(seldom) != string(first.Raw) {
		t.Error("the files are looked at for each client")
	}
}

func TestTLSRefuses(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	ca.issue(t, "a", false)
	ca.issue(t, "b", false)
	file := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(file("empty"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string][3]string{
		"no file":            {"none", "a.key", ""},
		"another's key":      {"a.crt", "b.key", ""},
		"no client CA":       {"a.crt", "a.key", "none"},
		"an empty client CA": {"a.crt", "a.key", "empty"},
	} {
		clientCA := ""
		if f[2] != "" {
			clientCA = file(f[2])
		}
		if _, err := serve.TLS(file(f[0]), file(f[1]), clientCA); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
