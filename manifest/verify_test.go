package manifest_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
)

// What the stock client mounts verifies, and what it refuses is refused, each
// for its reason.
func TestGoldenFail(t *testing.T) {
	dir := filepath.Join(golden(t), "fail")
	keys, err := manifest.LoadPublicKeys(filepath.Join(dir, "keys", "fail.golden.cf.pub"))
	if err != nil {
		t.Fatal(err)
	}
	trust := manifest.Trust{Keys: keys}
	for name, want := range map[string]error{
		"good": nil, "ok-whitelist-two-certs": nil,
		"rootcatalog-tampered":        nil, // found when the catalog is fetched
		"cert-tampered":               codec.ErrCorrupt,
		"manifest-body-tampered":      manifest.ErrSignature,
		"manifest-foreign-cert":       manifest.ErrUntrusted,
		"manifest-truncated":          manifest.ErrMalformed,
		"whitelist-expired":           manifest.ErrExpired,
		"whitelist-foreign-masterkey": manifest.ErrSignature,
	} {
		repo := filepath.Join(dir, name)
		v, err := trust.Verify(t.Context(), "fail.golden.cf", readFile(t, repo, manifest.FileName),
			readFile(t, repo, manifest.WhitelistName), certificates(repo), now)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if err == nil && (v.Manifest.Revision == 0 || v.WhitelistEnd.Year() != 2036) {
			t.Errorf("%s: %+v", name, v)
		}
		if err != nil && v != (manifest.Verified{}) {
			t.Errorf("%s: refused, and yet returned %+v", name, v)
		}
	}
}

func TestGoldenVerifies(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(golden(t), "*", "repo"))
	if err != nil || len(dirs) < 8 {
		t.Fatalf("%d golden repositories, %v", len(dirs), err)
	}
	for _, repo := range dirs {
		pubs, err := filepath.Glob(filepath.Join(repo, "..", "keys", "*.pub"))
		if err != nil || len(pubs) != 1 {
			t.Fatal(pubs, err)
		}
		keys, err := manifest.LoadPublicKeys(pubs...)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(pubs[0]), ".pub")
		if _, err := (manifest.Trust{Keys: keys}).Verify(t.Context(), name, readFile(t, repo, manifest.FileName),
			readFile(t, repo, manifest.WhitelistName), certificates(repo), now); err != nil {
			t.Errorf("%s: %v", repo, err)
		}
	}
}

// fixture is a repository's signed files, each of which a case can replace.
type fixture struct {
	name        string
	m           manifest.Manifest
	w           manifest.Whitelist
	release     *rsa.PrivateKey
	master      *rsa.PrivateKey
	trust       manifest.Trust
	certificate []byte
	now         time.Time
	rawManifest func([]byte) []byte
}

func newFixture(t testing.TB) *fixture {
	return &fixture{
		name: fqrn, m: sample(t),
		w: manifest.Whitelist{
			Name: fqrn, Created: now, Expires: now.Add(manifest.WhitelistValidity),
			Fingerprints: []object.Hash{foreign().Certificate.Fingerprint(object.SHA1), ours().Certificate.Fingerprint(object.RMD160)},
		},
		release: ours().Release, master: ours().master,
		trust:       manifest.Trust{Keys: []*rsa.PublicKey{ours().Public}},
		certificate: ours().Certificate.PEM, now: now,
		rawManifest: func(b []byte) []byte { return b },
	}
}

func (f *fixture) verify(t testing.TB) (manifest.Verified, error) {
	t.Helper()
	m, err := f.m.Sign(f.release, object.SHAKE128)
	if err != nil {
		t.Fatal(err)
	}
	w, err := f.w.Sign(f.master, object.SHAKE128)
	if err != nil {
		t.Fatal(err)
	}
	return f.trust.Verify(t.Context(), f.name, f.rawManifest(m), w,
		func(_ context.Context, h object.Hash) ([]byte, error) {
			if h != f.m.Certificate {
				t.Errorf("asked for certificate %s", h)
			}
			return f.certificate, nil
		}, f.now)
}

func TestVerify(t *testing.T) {
	f := newFixture(t)
	v, err := f.verify(t)
	if err != nil || v.Manifest != f.m || !v.WhitelistEnd.Equal(f.w.Expires.Truncate(time.Hour)) {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		edit func(*fixture)
		want error
	}{
		"another name expected":      {func(f *fixture) { f.name = "other.example.org" }, manifest.ErrName},
		"manifest of another":        {func(f *fixture) { f.m.Name = "other.example.org" }, manifest.ErrName},
		"whitelist of another":       {func(f *fixture) { f.w.Name = "other.example.org" }, manifest.ErrName},
		"manifest by another key":    {func(f *fixture) { f.release = foreign().Release }, manifest.ErrSignature},
		"manifest by a 1024 bit key": {func(f *fixture) { f.release = small }, manifest.ErrSignature},
		"manifest by the master":     {func(f *fixture) { f.release = ours().master }, manifest.ErrSignature},
		"whitelist by another key":   {func(f *fixture) { f.master = foreign().master }, manifest.ErrSignature},
		"whitelist by release key":   {func(f *fixture) { f.master = ours().Release }, manifest.ErrSignature},
		"no key":                     {func(f *fixture) { f.trust.Keys = nil }, manifest.ErrSignature},
		"certificate not listed":     {func(f *fixture) { f.w.Fingerprints = f.w.Fingerprints[:1] }, manifest.ErrUntrusted},
		"another's certificate":      {func(f *fixture) { f.certificate = foreign().Certificate.PEM }, manifest.ErrSignature},
		"no certificate in it":       {func(f *fixture) { f.certificate = []byte("hello") }, manifest.ErrMalformed},
		"endless certificate":        {func(f *fixture) { f.certificate = make([]byte, manifest.MaxSize+1) }, manifest.ErrMalformed},
		"expired":                    {func(f *fixture) { f.now = f.w.Expires }, manifest.ErrExpired},
		"expired long ago":           {func(f *fixture) { f.now = f.w.Expires.AddDate(10, 0, 0) }, manifest.ErrExpired},
		"certificate blacklisted": {func(f *fixture) {
			f.trust.Blacklist = blacklist(t, manifest.FormatFingerprint(ours().Certificate.Fingerprint(object.SHA1)))
		}, manifest.ErrBlacklisted},
		"revision blacklisted": {func(f *fixture) { f.trust.Blacklist = blacklist(t, "<"+fqrn+" 8") }, manifest.ErrBlacklisted},
		"last byte of signature": {func(f *fixture) {
			f.rawManifest = func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
		}, manifest.ErrSignature},
		"byte behind signature": {func(f *fixture) {
			f.rawManifest = func(b []byte) []byte { return append(b, 0) }
		}, manifest.ErrSignature},
		"manifest cut": {func(f *fixture) {
			f.rawManifest = func(b []byte) []byte { return b[:100] }
		}, manifest.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			tc.edit(f)
			v, err := f.verify(t)
			if !errors.Is(err, tc.want) {
				t.Errorf("%+v, %v, want %v", v, err, tc.want)
			}
			if v != (manifest.Verified{}) {
				t.Errorf("returned %+v", v)
			}
		})
	}
}

// A certificate that the whitelist does not list is looked at as bytes only,
// and one that cannot be had is the source's error.
func TestVerifyCertificateSource(t *testing.T) {
	f := newFixture(t)
	f.w.Fingerprints = f.w.Fingerprints[:1]
	f.certificate = []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	if _, err := f.verify(t); !errors.Is(err, manifest.ErrUntrusted) {
		t.Errorf("illegible and not listed: %v", err)
	}
	f = newFixture(t)
	m, err := f.m.Sign(f.release, object.SHA1)
	if err != nil {
		t.Fatal(err)
	}
	w, err := f.w.Sign(f.master, object.SHA1)
	if err != nil {
		t.Fatal(err)
	}
	away := errors.New("server is away")
	_, err = f.trust.Verify(t.Context(), fqrn, m, w, func(context.Context, object.Hash) ([]byte, error) { return nil, away }, now)
	if !errors.Is(err, away) {
		t.Errorf("source's error: %v", err)
	}
}

// Repositories of long ago have keys that are short by today's measure.
func TestVerifyOldKeys(t *testing.T) {
	release, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	master, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	c, err := manifest.NewCertificate(fqrn, release, now)
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t)
	f.release, f.master, f.certificate = release, master, c.PEM
	f.trust.Keys = []*rsa.PublicKey{&master.PublicKey}
	f.w.Fingerprints = []object.Hash{c.Fingerprint(object.SHA1)}
	if _, err := f.verify(t); err != nil {
		t.Error(err)
	}
}

func BenchmarkVerify(b *testing.B) {
	f := newFixture(b)
	m, err := f.m.Sign(f.release, object.SHAKE128)
	if err != nil {
		b.Fatal(err)
	}
	w, err := f.w.Sign(f.master, object.SHAKE128)
	if err != nil {
		b.Fatal(err)
	}
	cert := func(context.Context, object.Hash) ([]byte, error) { return f.certificate, nil }
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.trust.Verify(b.Context(), fqrn, m, w, cert, now); err != nil {
			b.Fatal(err)
		}
	}
}
