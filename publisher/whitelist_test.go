package publisher_test

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/internal/testsite"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher"
)

// strangers are keys that a test's repository does not know: with its name, and
// with another's.
var strangers = sync.OnceValues(func() ([2]*manifest.Keys, error) {
	own, _, err := manifest.GenerateKeys(testsite.Name, manifest.KeyOptions{Bits: 2048})
	other, _, oerr := manifest.GenerateKeys("other.example.org", manifest.KeyOptions{Bits: 2048})
	return [2]*manifest.Keys{own, other}, errors.Join(err, oerr)
})

// list is a whitelist of these certificates.
func list(t *testing.T, s *testsite.Site, master *rsa.PrivateKey, name string, certificates ...manifest.Certificate) []byte {
	t.Helper()
	w := manifest.Renewal{
		Name: name, Certificates: certificates, Now: s.Now(), Validity: 30 * 24 * time.Hour, Algorithm: object.SHAKE128,
	}.Whitelist()
	raw, err := w.Sign(master, object.SHAKE128)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// A new key signs what the old one signed, and nothing else: who could put a
// manifest of his own into the store must not get it blessed.
func TestResign(t *testing.T) {
	keys, err := strangers()
	if err != nil {
		t.Fatal(err)
	}
	fresh, other := keys[0], keys[1]
	s := testsite.New(t, publisher.Settings{Compression: object.Zlib, Algorithm: object.SHAKE128})
	s.Rootfs("demo", "1", testsite.File("f", "one"))
	forge := func(s *testsite.Site) {
		raw := s.Read(".cvmfspublished")
		raw[len(raw)-1] ^= 1
		s.Write(".cvmfspublished", raw)
	}
	for name, tc := range map[string]struct {
		keys   *manifest.Keys
		listed []manifest.Certificate // beside the new one
		harm   func(s *testsite.Site)
		says   string // without force; "" if it signs
		forced bool   // signs with force
	}{
		"both listed":           {fresh, []manifest.Certificate{s.Keys.Certificate}, nil, "", true},
		"old one not listed":    {fresh, nil, nil, "not on the whitelist: the old one", true},
		"forged":                {fresh, []manifest.Certificate{s.Keys.Certificate}, forge, "no signature that counts", true},
		"old certificate gone":  {fresh, []manifest.Certificate{s.Keys.Certificate}, func(s *testsite.Site) { s.Remove(object.Path(s.Head().Certificate, object.Certificate)) }, "no signature that counts", true},
		"another repository's":  {other, []manifest.Certificate{s.Keys.Certificate, other.Certificate}, nil, "the keys are those of other.example.org", false},
		"whitelist is missing":  {fresh, nil, func(s *testsite.Site) { s.Remove(".cvmfswhitelist") }, ".cvmfswhitelist", false},
		"whitelist is not one":  {fresh, nil, func(s *testsite.Site) { s.Write(".cvmfswhitelist", []byte("x")) }, ".cvmfswhitelist", false},
		"new one is not listed": {s.Keys, nil, nil, "not on the whitelist: the new one", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.Clone(t)
			s.Write(".cvmfswhitelist", list(t, s, s.Master, testsite.Name, append(tc.listed, fresh.Certificate)...))
			if tc.harm != nil {
				tc.harm(s)
			}
			o, before := s.Options, s.Read(".cvmfspublished")
			o.Keys = tc.keys
			_, err := publisher.Resign(t.Context(), o, false)
			if tc.says == "" && err != nil || tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)) {
				t.Errorf("%v, want %q", err, tc.says)
			}
			if tc.says != "" && !bytes.Equal(s.Read(".cvmfspublished"), before) {
				t.Error("refused, yet changed something")
			}
			if _, err = publisher.Resign(t.Context(), o, true); (err == nil) != tc.forced {
				t.Errorf("with force: %v", err)
			}
			if !tc.forced {
				return
			}
			if m, err := manifest.OpenSigned(s.Read(".cvmfspublished"), tc.keys.Certificate); err != nil || m.Certificate != object.SHAKE128.Sum(s.Read(object.Path(m.Certificate, object.Certificate))) {
				t.Errorf("the manifest is not the new key's: %v", err)
			}
		})
	}
}

// What would shut out every cell is not installed.
func TestInstallWhitelist(t *testing.T) {
	keys, err := strangers()
	if err != nil {
		t.Fatal(err)
	}
	fresh, other := keys[0], keys[1]
	s := testsite.New(t, publisher.Settings{Compression: object.Zlib, Algorithm: object.SHAKE128})
	now := s.Now()
	for name, tc := range map[string]struct {
		raw     []byte
		masters []*rsa.PublicKey
		now     time.Time
		want    error
	}{
		"both":               {list(t, s, s.Master, testsite.Name, s.Keys.Certificate, fresh.Certificate), []*rsa.PublicKey{&s.Master.PublicKey}, now, nil},
		"unchecked":          {list(t, s, fresh.Release, testsite.Name, s.Keys.Certificate), nil, now, nil},
		"of another master":  {list(t, s, fresh.Release, testsite.Name, s.Keys.Certificate), []*rsa.PublicKey{&s.Master.PublicKey}, now, manifest.ErrSignature},
		"old one not listed": {list(t, s, s.Master, testsite.Name, fresh.Certificate), nil, now, manifest.ErrUntrusted},
		"another's":          {list(t, s, s.Master, "other.example.org", s.Keys.Certificate, other.Certificate), nil, now, manifest.ErrName},
		"expired":            {list(t, s, s.Master, testsite.Name, s.Keys.Certificate), nil, now.AddDate(0, 0, 31), manifest.ErrExpired},
		"malformed":          {[]byte("x"), nil, now, manifest.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.Clone(t)
			before := s.Read(".cvmfswhitelist")
			_, is, err := publisher.InstallWhitelist(t.Context(), s.Store, tc.raw, tc.masters, tc.now)
			if !errors.Is(err, tc.want) {
				t.Fatalf("%v, want %v", err, tc.want)
			}
			want := before
			if tc.want == nil {
				if want = tc.raw; is.Name != testsite.Name {
					t.Errorf("installed that of %s", is.Name)
				}
			}
			if !bytes.Equal(s.Read(".cvmfswhitelist"), want) {
				t.Error("the store has another whitelist than it should")
			}
		})
	}
}

// Before the old certificate goes, whoever looks is told what it would do.
func TestReadTrusted(t *testing.T) {
	keys, err := strangers()
	if err != nil {
		t.Fatal(err)
	}
	s := testsite.New(t, publisher.Settings{Compression: object.Zlib, Algorithm: object.SHAKE128})
	for _, listed := range []bool{true, false} {
		if !listed {
			s.Write(".cvmfswhitelist", list(t, s, s.Master, testsite.Name, keys[0].Certificate))
		}
		trusted, err := publisher.ReadTrusted(t.Context(), s.Store)
		if err != nil || trusted.Listed != listed || trusted.Whitelist.Name != testsite.Name {
			t.Errorf("%+v, %v, want listed %v", trusted, err, listed)
		}
	}
}
