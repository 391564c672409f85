package manifest_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
)

func TestKeysOnDisk(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "new", "keys")
	if err := ours().Write(dir, ours().master); err != nil {
		t.Fatal(err)
	}
	for suffix, mode := range map[string]fs.FileMode{".key": 0o600, ".masterkey": 0o600, ".crt": 0o644, ".pub": 0o644} {
		info, err := os.Stat(filepath.Join(dir, fqrn+suffix))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", suffix, info.Mode(), err)
		}
	}
	k, err := manifest.ReadKeys(dir, fqrn)
	if err != nil {
		t.Fatal(err)
	}
	if !k.Release.Equal(ours().Release) || !k.Public.Equal(ours().Public) || string(k.Certificate.PEM) != string(ours().Certificate.PEM) {
		t.Error("keys changed on the way")
	}
	master, err := manifest.ReadMasterKey(dir, fqrn)
	if err != nil || !master.Equal(ours().master) {
		t.Errorf("master key: %v", err)
	}
	// Publishing needs neither the master key nor its public half.
	for _, f := range []string{manifest.MasterKeyFile(dir, fqrn), manifest.PublicKeyFile(dir, fqrn)} {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	if k, err = manifest.ReadKeys(dir, fqrn); err != nil || k.Public != nil {
		t.Errorf("without master: %v, %v", k, err)
	}
	if _, err := manifest.ReadMasterKey(dir, fqrn); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("master key moved away: %v", err)
	}
}

// Whichever of the four files is there, none is replaced and none is left.
func TestKeysAreNeverReplaced(t *testing.T) {
	for _, suffix := range []string{".key", ".masterkey", ".crt", ".pub"} {
		dir := t.TempDir()
		precious := writeFile(t, filepath.Join(dir, fqrn+suffix), []byte("precious"))
		err := ours().Write(dir, ours().master)
		if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), precious) {
			t.Errorf("%s: %v", suffix, err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 || string(readFile(t, precious)) != "precious" {
			t.Errorf("%s: left %v, %v", suffix, entries, err)
		}
	}
}

func TestReadKeysRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		edit func(dir string)
		want string // what the message must tell
	}{
		"no key":       {func(dir string) { os.Remove(filepath.Join(dir, fqrn+".key")) }, "init"},
		"no crt":       {func(dir string) { os.Remove(filepath.Join(dir, fqrn+".crt")) }, "init"},
		"empty key":    {func(dir string) { writeFile(t, filepath.Join(dir, fqrn+".key"), nil) }, "PRIVATE KEY"},
		"endless key":  {func(dir string) { writeFile(t, filepath.Join(dir, fqrn+".key"), make([]byte, 1<<20)) }, "larger"},
		"foreign crt":  {func(dir string) { writeFile(t, filepath.Join(dir, fqrn+".crt"), foreign().Certificate.PEM) }, "belongs together"},
		"crt is a key": {func(dir string) { writeFile(t, filepath.Join(dir, fqrn+".crt"), readFile(t, dir, fqrn+".key")) }, "CERTIFICATE"},
		"pub is a crt": {func(dir string) { writeFile(t, filepath.Join(dir, fqrn+".pub"), ours().Certificate.PEM) }, "PUBLIC KEY"},
		"passphrase": {func(dir string) {
			openssl(t, "genrsa", "-aes128", "-passout", "pass:secret", "-out", filepath.Join(dir, fqrn+".key"), "2048")
		}, "passphrase"},
		"elliptic": {func(dir string) {
			openssl(t, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", filepath.Join(dir, fqrn+".key"))
		}, "RSA only"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := ours().Write(dir, ours().master); err != nil {
				t.Fatal(err)
			}
			tc.edit(dir)
			_, err := manifest.ReadKeys(dir, fqrn)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("%v", err)
			}
		})
	}
	if _, err := manifest.ReadKeys(t.TempDir(), "../x"); !errors.Is(err, manifest.ErrName) {
		t.Errorf("name that leaves the directory: %v", err)
	}
}

func TestReadPKCS8(t *testing.T) {
	dir := t.TempDir()
	if err := ours().Write(dir, ours().master); err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(ours().Release)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, fqrn+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if k, err := manifest.ReadKeys(dir, fqrn); err != nil || !k.Release.Equal(ours().Release) {
		t.Errorf("%v", err)
	}
}

func TestLoadPublicKeys(t *testing.T) {
	dir := t.TempDir()
	if err := ours().Write(dir, ours().master); err != nil {
		t.Fatal(err)
	}
	pub := manifest.PublicKeyFile(dir, fqrn)
	two := writeFile(t, filepath.Join(dir, "two.pub"), append(readFile(t, pub), readFile(t, pub)...))
	if keys, err := manifest.LoadPublicKeys(pub, two); err != nil || len(keys) != 3 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	if _, err := manifest.LoadPublicKeys(pub, filepath.Join(dir, "none.pub")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

// A key of no sensible size costs whoever verifies with it too much, or
// nothing whoever forges.
func TestPublicKeySizes(t *testing.T) {
	for bits, accepted := range map[uint]bool{1023: false, 1024: true, 16384: true, 16385: false} {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537})
		if err != nil {
			t.Fatal(err)
		}
		file := writeFile(t, filepath.Join(t.TempDir(), "a.pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		if _, err := manifest.LoadPublicKeys(file); (err == nil) != accepted || !accepted && !errors.Is(err, manifest.ErrMalformed) {
			t.Errorf("%d bits: %v", bits, err)
		}
	}
}

func TestGenerateKeysRefuses(t *testing.T) {
	for _, bits := range []int{-1, 1024, 2047, 1 << 20} {
		if _, _, err := manifest.GenerateKeys(fqrn, manifest.KeyOptions{Bits: bits}); !errors.Is(err, manifest.ErrMalformed) {
			t.Errorf("%d bits: %v", bits, err)
		}
	}
	if _, _, err := manifest.GenerateKeys("a b", manifest.KeyOptions{Bits: 2048}); !errors.Is(err, manifest.ErrName) {
		t.Errorf("name: %v", err)
	}
}

func TestNewCertificate(t *testing.T) {
	for name, cn := range map[string]string{
		"cms.cern.ch":                  "cms.cern.ch CernVM-FS Release Managers",
		strings.Repeat("a", 30):        strings.Repeat("a", 30) + " CernVM-FS Release Managers",
		strings.Repeat("a", 60):        strings.Repeat("a", 30) + "[...] CernVM-FS Release Managers",
		"x." + strings.Repeat("b", 29): "x." + strings.Repeat("b", 28) + "[...] CernVM-FS Release Managers",
	} {
		c, err := manifest.NewCertificate(name, ours().Release, now)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParseCertificate(c.DER)
		if err != nil || parsed.Subject.CommonName != cn || len(cn) > 64 {
			t.Errorf("%s: %v, %v", name, parsed.Subject, err)
		}
		if err := parsed.CheckSignature(parsed.SignatureAlgorithm, parsed.RawTBSCertificate, parsed.Signature); err != nil {
			t.Errorf("%s is not self-signed: %v", name, err)
		}
		back, err := manifest.ParseCertificate(c.PEM)
		if err != nil || string(back.DER) != string(c.DER) || !back.Key.Equal(c.Key) {
			t.Errorf("%s does not read back: %v", name, err)
		}
	}
}

func TestParseCertificateRefuses(t *testing.T) {
	dir := t.TempDir()
	ec := filepath.Join(dir, "ec.crt")
	openssl(t, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x",
		"-keyout", filepath.Join(dir, "ec.key"), "-out", ec)
	short := filepath.Join(dir, "short.crt")
	openssl(t, "req", "-x509", "-newkey", "rsa:512", "-nodes", "-subj", "/CN=x",
		"-keyout", filepath.Join(dir, "short.key"), "-out", short)
	for name, text := range map[string][]byte{
		"empty": nil, "elliptic": readFile(t, ec), "512 bits": readFile(t, short),
		"garbage":       []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
		"one too large": append(bytes.Repeat([]byte("\n"), manifest.MaxSize+1-len(ours().Certificate.PEM)), ours().Certificate.PEM...),
	} {
		if _, err := manifest.ParseCertificate(text); !errors.Is(err, manifest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The padded blocks of CVMFS-FORMAT 9.4, and the openssl command as judge of
// both encodings.
func TestOpenSSLAgrees(t *testing.T) {
	dir := t.TempDir()
	if err := ours().Write(dir, ours().master); err != nil {
		t.Fatal(err)
	}
	w := manifest.Whitelist{
		Name: fqrn, Created: now, Expires: now.Add(manifest.WhitelistValidity),
		Fingerprints: []object.Hash{ours().Certificate.Fingerprint(object.SHA1)},
	}
	list, err := w.Sign(ours().master, object.SHA1)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := sample(t).Sign(ours().Release, object.SHAKE128)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, key string
		raw       []byte
		args      []string
	}{
		{"manifest", ".key", raw, []string{"dgst", "-sha1", "-sign"}},
		{"whitelist", ".masterkey", list, []string{"pkeyutl", "-sign", "-inkey"}},
	} {
		e, err := manifest.Open(tc.raw)
		if err != nil {
			t.Fatal(err)
		}
		text := writeFile(t, filepath.Join(dir, "text"), e.HashText)
		sig := filepath.Join(dir, "sig")
		args := append(tc.args, filepath.Join(dir, fqrn+tc.key), "-out", sig)
		if tc.name == "manifest" {
			args = append(args, text)
		} else {
			args = append(args, "-in", text)
		}
		openssl(t, args...)
		if got := readFile(t, sig); string(got) != string(e.Signature) {
			t.Errorf("%s: openssl signs otherwise", tc.name)
		}
	}
	// The certificate's fingerprint as openssl computes it.
	out := openssl(t, "x509", "-in", filepath.Join(dir, fqrn+".crt"), "-noout", "-fingerprint", "-sha1")
	if want := manifest.FormatFingerprint(ours().Certificate.Fingerprint(object.SHA1)); !strings.Contains(out, want) {
		t.Errorf("fingerprint %s, openssl says %s", want, out)
	}
	if openssl(t, "rsa", "-pubin", "-in", manifest.PublicKeyFile(dir, fqrn), "-noout", "-text") == "" {
		t.Error("openssl does not read the public key")
	}
}

func TestPaddedBlocks(t *testing.T) {
	const text = "0123456789abcdef0123456789abcdef01234567"
	sum := sha1.Sum([]byte(text))
	prefix := "\x30\x21\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14"
	const inner = "\x15\x8b\x48\x4a\xe1\xf6\xf6\x4f\x89\xda\x22\x39\x7d\x25\xfb\xda\xfa\xd0\x22\x52"
	if string(sum[:]) != inner {
		t.Fatalf("SHA-1 of the text is %x", sum)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		sign func() (raw []byte, err error)
		tail func(hashText string) string
	}{
		"manifest": {
			func() ([]byte, error) { return sample(t).Sign(key, object.SHA1) },
			func(h string) string { s := sha1.Sum([]byte(h)); return prefix + string(s[:]) },
		},
		"whitelist": {
			func() ([]byte, error) {
				return manifest.Whitelist{
					Name: fqrn, Created: now, Expires: now, Fingerprints: []object.Hash{object.SHA1.Sum(nil)},
				}.Sign(key, object.SHA1)
			},
			func(h string) string { return h },
		},
	} {
		raw, err := tc.sign()
		if err != nil {
			t.Fatal(err)
		}
		e, err := manifest.Open(raw)
		if err != nil {
			t.Fatal(err)
		}
		tail := tc.tail(string(e.HashText))
		want := "\x00\x01" + strings.Repeat("\xff", 256-3-len(tail)) + "\x00" + tail
		if got := rsaPublic(&key.PublicKey, e.Signature); string(got) != want {
			t.Errorf("%s: padded block %x, want %x", name, got, want)
		}
	}
}

// What an operator gets who asks for nothing special.
func TestGenerateKeysDefault(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED, the default key size is not checked: making keys of 4096 bits takes seconds")
	}
	k, master, err := manifest.GenerateKeys(fqrn, manifest.KeyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if k.Release.N.BitLen() != 4096 || master.N.BitLen() != 4096 || !k.Public.Equal(&master.PublicKey) || k.Release.Equal(master) {
		t.Errorf("keys of %d and %d bits", k.Release.N.BitLen(), master.N.BitLen())
	}
	m := sample(t)
	raw, err := m.Sign(k.Release, object.SHAKE128)
	if err != nil || len(raw) >= 4096 {
		t.Errorf("signed with it: %d bytes, %v", len(raw), err)
	}
}
