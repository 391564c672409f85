package blobstore_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/cell/blobstore"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// identity makes a self-signed certificate, and files of it and its key.
func identity(t *testing.T, name string) (pair tls.Certificate, cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, private.Public(), private)
	must(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600))
	pair, err = tls.LoadX509KeyPair(cert, key)
	must(t, err)
	return pair, cert, key
}

// A blobstore hands droplets only to who shows the right certificate.
func TestClientCertificate(t *testing.T) {
	server, ca, _ := identity(t, "blobstore")
	mine, cert, key := identity(t, "cell")
	_, otherCert, otherKey := identity(t, "stranger")
	pool := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(mine.Certificate[0])
	must(t, err)
	pool.AddCert(leaf)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "http://127.0.0.1:1/droplet", http.StatusFound)
			return
		}
		w.Write([]byte("droplet"))
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	s.StartTLS()
	defer s.Close()
	get := func(o blobstore.Options, urls ...string) (string, error) {
		var b bytes.Buffer
		err := blobstore.Fetch(t.Context(), urls, o, &b)
		return b.String(), err
	}
	good := blobstore.Options{Certificate: cert, Key: key, CA: ca, Size: 7}
	if got, err := get(good, s.URL+"/d?sig=s3cret"); err != nil || got != "droplet" {
		t.Errorf("%q, %v", got, err)
	}
	// The second URL is tried when the first gives nothing.
	if got, err := get(good, "https://127.0.0.1:1/x", s.URL+"/d"); err != nil || got != "droplet" {
		t.Errorf("second URL: %q, %v", got, err)
	}
	for name, tc := range map[string]struct {
		o   blobstore.Options
		url string
	}{
		"no certificate":    {blobstore.Options{CA: ca}, s.URL},
		"other certificate": {blobstore.Options{Certificate: otherCert, Key: otherKey, CA: ca}, s.URL},
		"unknown server":    {blobstore.Options{Certificate: cert, Key: key}, s.URL},
		"wrong size":        {blobstore.Options{Certificate: cert, Key: key, CA: ca, Size: 6}, s.URL},
		"leaves https":      {good, s.URL + "/away"},
		"key is missing":    {blobstore.Options{Certificate: cert, Key: "/no/such", CA: ca}, s.URL},
		"CA is none":        {blobstore.Options{CA: key}, s.URL},
		"malformed":         {good, "https://h:x/%"},
	} {
		got, err := get(tc.o, tc.url+"?sig=s3cret")
		if !errors.Is(err, blobstore.ErrFetch) || got != "" || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestBrokenDownloads(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		switch r.URL.Path {
		case "/404":
			w.WriteHeader(http.StatusNotFound)
		case "/half":
			w.Header().Set("Content-Length", "10")
			w.Write([]byte("12345"))
		case "/chunked":
			w.Write([]byte("123"))
			w.(http.Flusher).Flush()
			w.Write([]byte("45678"))
		}
	}))
	defer s.Close()
	for name, tc := range map[string]struct {
		paths []string
		asked int
	}{
		"missing": {[]string{"/404", "/404"}, 2},
		// What has gone to the receiver cannot be taken back.
		"half": {[]string{"/half", "/half"}, 1}, "more than promised": {[]string{"/chunked", "/chunked"}, 1},
	} {
		asked = 0
		var urls []string
		for _, p := range tc.paths {
			urls = append(urls, s.URL+p)
		}
		size := map[bool]int64{true: 7, false: 0}[name == "more than promised"]
		var b bytes.Buffer
		if err := blobstore.Fetch(t.Context(), urls, blobstore.Options{Size: size}, &b); !errors.Is(err, blobstore.ErrFetch) || asked != tc.asked {
			t.Errorf("%s: %v after %d requests, %q", name, err, asked, b.String())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := blobstore.Fetch(ctx, []string{s.URL + "/chunked"}, blobstore.Options{}, &bytes.Buffer{}); err == nil {
		t.Error("an ended context fetches")
	}
}
