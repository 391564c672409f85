package manifest_test

import (
	"crypto/rsa"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
)

// CVMFS-FORMAT 9.4.
const listBody = "20240102030405\nE20240201030405\nNtest.example.org\n" +
	"19:D7:28:70:81:DB:2B:D3:EA:5A:A3:1A:4A:34:B1:4E:AA:D0:CC:B2\n"

func TestWhitelistVector(t *testing.T) {
	w, err := manifest.ParseWhitelist([]byte(listBody))
	if err != nil {
		t.Fatal(err)
	}
	if len(w.Fingerprints) != 1 || w.Fingerprints[0] != object.SHA1.Sum([]byte("not a real certificate\n")) {
		t.Errorf("fingerprints %v", w.Fingerprints)
	}
	if w.Name != fqrn || string(w.Print()) != listBody {
		t.Errorf("printed again:\n%s", w.Print())
	}
}

// Exact to the hour, on both sides.
func TestWhitelistExpiry(t *testing.T) {
	w, err := manifest.ParseWhitelist([]byte(listBody))
	if err != nil {
		t.Fatal(err)
	}
	east := time.FixedZone("half past", 5*3600+1800)
	for _, tc := range []struct {
		now  time.Time
		want bool
	}{
		{time.Date(2024, 2, 1, 2, 59, 59, 999999999, time.UTC), false},
		{time.Date(2024, 2, 1, 3, 0, 0, 0, time.UTC), true},
		{time.Date(2024, 2, 1, 3, 4, 4, 0, time.UTC), true}, // before the E line's minute, yet expired
		{time.Date(2024, 2, 1, 4, 0, 0, 0, time.UTC), true},
		{time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC), false}, // the creation time does not count
		{time.Date(2024, 2, 1, 8, 29, 59, 0, east), false},
		{time.Date(2024, 2, 1, 8, 30, 0, 0, east), true},
	} {
		if got := w.Expired(tc.now); got != tc.want {
			t.Errorf("at %s: expired = %v", tc.now, got)
		}
	}
}

func TestFingerprintForms(t *testing.T) {
	content := []byte("not a real certificate\n")
	const shake = "54:EA:7E:6E:96:A5:46:2C:55:18:CE:6F:C4:C9:D9:17:95:2E:81:30-SHAKE128"
	if got := manifest.FormatFingerprint(object.SHAKE128.Sum(content)); got != shake {
		t.Errorf("printed %s", got)
	}
	for _, line := range []string{
		shake, shake + " # release manager", shake + "\tx", shake + "#x",
		strings.ToLower(shake), strings.ReplaceAll(shake, ":", ""),
	} {
		if h, err := manifest.ParseFingerprint(line); err != nil || h != object.SHAKE128.Sum(content) {
			t.Errorf("%q: %v, %v", line, h, err)
		}
	}
	for _, line := range []string{"", " ", "#", "19:D7", shake + "x", " " + shake, strings.Repeat(":", 4000) + shake} {
		if h, err := manifest.ParseFingerprint(line); !errors.Is(err, object.ErrBadHash) {
			t.Errorf("%q: %v, %v", line, h, err)
		}
	}
}

func TestParseWhitelistRefuses(t *testing.T) {
	edit := func(old, now string) string { return strings.Replace(listBody, old, now, 1) }
	for name, body := range map[string]string{
		"empty": "", "two lines": "20240102030405\nE20240201030405\n",
		"short date": edit("20240102030405", "2024010203040"), "no E": edit("E2024", "F2024"),
		"short expiry": edit("E20240201030405", "E2024020103040"), "month 13": edit("E202402", "E202413"),
		"letters in expiry": edit("E20240201", "E2024020x"), "no N": edit("Ntest", "test"),
		"pkcs7": listBody + "Vpkcs7\n", "chain": listBody + "Wcachain\n",
		"too many": listBody + strings.Repeat("19D7287081DB2BD3EA5AA31A4A34B14EAAD0CCB2\n", 256),
	} {
		if w, err := manifest.ParseWhitelist([]byte(body)); !errors.Is(err, manifest.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, w, err)
		}
	}
	// An illegible line names no certificate, and does not hide the others.
	w, err := manifest.ParseWhitelist([]byte(edit("Ntest.example.org\n", "Ntest.example.org\nwhat\n\n# comment\n")))
	if err != nil || len(w.Fingerprints) != 1 {
		t.Errorf("illegible lines: %+v, %v", w, err)
	}
}

func TestWhitelistSignAndOpen(t *testing.T) {
	w := manifest.Whitelist{
		Name: fqrn, Created: now, Expires: now.Add(manifest.WhitelistValidity),
		Fingerprints: []object.Hash{ours().Certificate.Fingerprint(object.SHAKE128), ours().Certificate.Fingerprint(object.SHA1)},
	}
	raw, err := w.Sign(ours().master, object.SHAKE128)
	if err != nil {
		t.Fatal(err)
	}
	both := []*rsa.PublicKey{foreign().Public, ours().Public}
	got, err := manifest.OpenWhitelist(raw, both)
	if err != nil || got.Name != fqrn || len(got.Fingerprints) != 2 || !got.Expires.Equal(w.Expires) {
		t.Errorf("opened %+v, %v", got, err)
	}
	for name, keys := range map[string][]*rsa.PublicKey{
		"no key": nil, "another's key": {foreign().Public}, "the release key": {&ours().Release.PublicKey},
	} {
		if _, err := manifest.OpenWhitelist(raw, keys); !errors.Is(err, manifest.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, edit := range map[string]func(*manifest.Whitelist){
		"name":             func(w *manifest.Whitelist) { w.Name = "a\nb" },
		"no certificate":   func(w *manifest.Whitelist) { w.Fingerprints = nil },
		"year of 5 digits": func(w *manifest.Whitelist) { w.Expires = time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC) },
		"too many":         func(w *manifest.Whitelist) { w.Fingerprints = make([]object.Hash, 257) },
	} {
		w := w
		edit(&w)
		if raw, err := w.Sign(ours().master, object.SHA1); err == nil {
			t.Errorf("%s: signed %q", name, raw)
		}
	}
}

// What stock signed verifies, and prints back to the same bytes.
func TestGoldenWhitelists(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(golden(t), "*", "repo", manifest.WhitelistName))
	if err != nil || len(files) < 8 {
		t.Fatalf("%d golden repositories, %v", len(files), err)
	}
	for _, file := range files {
		raw := readFile(t, file)
		pubs, err := filepath.Glob(filepath.Join(filepath.Dir(file), "..", "keys", "*.pub"))
		if err != nil {
			t.Fatal(err)
		}
		keys, err := manifest.LoadPublicKeys(pubs...)
		if err != nil {
			t.Fatal(err)
		}
		w, err := manifest.OpenWhitelist(raw, keys)
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if !strings.HasPrefix(string(raw), string(w.Print())+"--\n") {
			t.Errorf("%s printed again:\n%s", file, w.Print())
		}
		if w.Expired(now) {
			t.Errorf("%s expired at %s", file, w.End())
		}
	}
}
