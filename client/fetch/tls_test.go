package fetch_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/client/fetch"
)

// pemFile writes one block.
func pemFile(t *testing.T, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// clientPair is a certificate that signs itself, and its key.
func clientPair(t *testing.T) (cert *x509.Certificate, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return cert, pemFile(t, "CERTIFICATE", der), pemFile(t, "EC PRIVATE KEY", keyDER)
}

// Servers with a certificate of a private CA that ask for one of the client's,
// over HTTP/2, which they offer.
func TestPrivateCA(t *testing.T) {
	cert, certFile, keyFile := clientPair(t)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Proto+" "+r.TLS.PeerCertificates[0].SerialNumber.String()) //nolint:errcheck // the test sees it
	}))
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	s.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	s.EnableHTTP2 = true
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := pemFile(t, "CERTIFICATE", s.Certificate().Raw)

	for name, tc := range map[string]struct {
		ca, cert, key string
		ok            bool
	}{
		"all":            {ca, certFile, keyFile, true},
		"no certificate": {ca, "", "", false},
		"another CA":     {certFile, certFile, keyFile, false},
		"system's CAs":   {"", certFile, keyFile, false},
	} {
		c, err := fetch.LoadTLS(tc.ca, tc.cert, tc.key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := get(t, stack(t, fetch.Config{Servers: []string{s.URL}, TLS: c, Retries: -1}), fetch.Options{})
		if (err == nil) != tc.ok || tc.ok && got != "HTTP/2.0 1" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if err != nil && !errors.Is(err, fetch.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLoadTLSRefuses(t *testing.T) {
	_, certFile, keyFile := clientPair(t)
	if c, err := fetch.LoadTLS("", "", ""); c != nil || err != nil {
		t.Errorf("nothing: %v, %v", c, err)
	}
	for name, tc := range map[string][3]string{
		"certificate without key": {"", certFile, ""},
		"key without certificate": {"", "", keyFile},
		"no file":                 {"/nowhere", "", ""},
		"no certificate in it":    {keyFile, "", ""},
		"another kind of key":     {"", certFile, certFile},
	} {
		if _, err := fetch.LoadTLS(tc[0], tc[1], tc[2]); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// nameServer answers every question with the addresses it is told.
func nameServer(t *testing.T) (*net.Resolver, *atomic.Pointer[[]net.IP]) {
	t.Helper()
	var ips atomic.Pointer[[]net.IP]
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() }) //nolint:errcheck // the test is over
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			conn.WriteTo(dnsAnswer(buf[:n], *ips.Load()), from) //nolint:errcheck // asked again
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}, &ips
}

// dnsAnswer is RFC 1035's answer to a question for addresses of IPv4; there are
// none of others.
func dnsAnswer(question []byte, ips []net.IP) []byte {
	end := 12
	for question[end] != 0 {
		end += int(question[end]) + 1
	}
	if question[end+2] != 1 {
		ips = nil
	}
	out := append([]byte(nil), question[:end+5]...)
	copy(out[2:], []byte{0x81, 0x80, 0, 1, 0, byte(len(ips)), 0, 0, 0, 0})
	for _, ip := range ips {
		out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		out = append(out, ip.To4()...)
	}
	return out
}

// at serves name on an address of the loopback network.
func at(t *testing.T, ip, port, name string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, port))
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: says(name), ReadHeaderTimeout: time.Minute}}
	s.Start()
	t.Cleanup(s.Close)
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

// A name has several addresses, of which some are dead, and others later.
func TestNames(t *testing.T) {
	resolver, ips := nameServer(t)
	port := at(t, "127.0.0.2", "0", "two")
	at(t, "127.0.0.3", port, "three")
	h, err := fetch.NewHTTP("http://stratum1.test:"+port, fetch.HTTPOptions{Resolver: resolver, Renew: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for _, tc := range []struct{ ips, want string }{
		{"127.0.0.9 127.0.0.2", "two"}, // nobody is at the first
		{"127.0.0.3", "three"},
		{"127.0.0.2", "two"},
	} {
		var list []net.IP
		for _, s := range strings.Fields(tc.ips) {
			list = append(list, net.ParseIP(s))
		}
		ips.Store(&list)
		if got, err := get(t, h, fetch.Options{}); got != tc.want || err != nil {
			t.Errorf("addresses %s: %q, %v", tc.ips, got, err)
		}
	}
	ips.Store(&[]net.IP{})
	if _, err := get(t, h, fetch.Options{}); !errors.Is(err, fetch.ErrUnavailable) {
		t.Errorf("no address: %v", err)
	}
}
