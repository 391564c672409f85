package trust_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/rootfsprovider/trust"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// authority makes a certificate with the given subject, in PEM.
func authority(t testing.TB, subject any) []byte {
	t.Helper()
	raw, err := asn1.Marshal(subject)
	must(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), RawSubject: raw, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func named(name string) pkix.RDNSequence { return pkix.Name{CommonName: name}.ToRDNSequence() }

// subjects are names that differ from their canonical form in every way.
func subjects(t testing.TB) map[string][]byte {
	t.Helper()
	raw := func(tag int, text string) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassUniversal, Tag: tag, Bytes: []byte(text)}
	}
	type attribute struct {
		ID    asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	name := func(tag int, text string) any {
		return []asn1.RawValue{rdn(t, attribute{asn1.ObjectIdentifier{2, 5, 4, 3}, raw(tag, text)})}
	}
	return map[string][]byte{
		"plain":     authority(t, named("Example Root")),
		"full":      authority(t, pkix.Name{Country: []string{"DE"}, Organization: []string{"Ünïcode  GmbH"}, CommonName: " Root  CA\t1 "}.ToRDNSequence()),
		"printable": authority(t, name(asn1.TagPrintableString, "  UPPER   lower ")),
		"ia5":       authority(t, name(asn1.TagIA5String, "Mail@Example.ORG")),
		"bmp":       authority(t, name(asn1.TagBMPString, "\x00A\x00 \x00 \x00\xc4")),
		"several": authority(t, []asn1.RawValue{rdn(t,
			attribute{asn1.ObjectIdentifier{2, 5, 4, 11}, raw(asn1.TagUTF8String, "Unit")},
			attribute{asn1.ObjectIdentifier{2, 5, 4, 3}, raw(asn1.TagPrintableString, "Longer Than The Other")},
		)}),
	}
}

// rdn is one set of attributes.
func rdn(t testing.TB, attributes ...any) asn1.RawValue {
	t.Helper()
	var all []byte
	for _, a := range attributes {
		b, err := asn1.Marshal(a)
		must(t, err)
		all = append(all, b...)
	}
	return asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSet, IsCompound: true, Bytes: all}
}

func TestInstallAsOpenSSLFindsThem(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("SKIPPED: openssl is missing; install it")
	}
	root := t.TempDir()
	certs := filepath.Join(root, "etc/ssl/certs")
	must(t, os.MkdirAll(certs, 0o755))
	must(t, os.MkdirAll(filepath.Join(root, "usr/local/share"), 0o755))
	own := authority(t, named("The stack's own"))
	must(t, os.WriteFile(filepath.Join(certs, "ca-certificates.crt"), bytes.TrimSpace(own), 0o644))
	var all []byte
	for name, text := range subjects(t) {
		all = append(append(all, ("# "+name+"\n")...), text...)
	}
	all = append(all, authority(t, named("Example Root"))...) // the same name twice
	set, err := trust.Parse(append(all, all...))
	must(t, err)
	_, err = set.Install(root)
	must(t, err)
	_, err = set.Install(root)
	must(t, err) // what is there stays as it is, but for the bundle
	for name, text := range subjects(t) {
		cmd := exec.Command("openssl", "x509", "-noout", "-subject_hash")
		cmd.Stdin = bytes.NewReader(text)
		hash, err := cmd.Output()
		must(t, err)
		link := filepath.Join(certs, strings.TrimSpace(string(hash))+".0")
		pemFile, err := os.Readlink(link)
		if err != nil || strings.Contains(pemFile, "/") {
			t.Errorf("%s: openssl looks for %s: %q, %v", name, filepath.Base(link), pemFile, err)
			continue
		}
		source, err := os.Readlink(filepath.Join(certs, pemFile))
		if err != nil || !strings.HasPrefix(source, "/usr/local/share/ca-certificates/rootstock-") || !strings.HasSuffix(source, ".crt") {
			t.Errorf("%s: %s leads to %q, %v", name, pemFile, source, err)
		}
		if _, err := os.Stat(filepath.Join(root, source)); err != nil {
			t.Error(err)
		}
	}
	if links, err := filepath.Glob(filepath.Join(certs, "*.[0-9]")); err != nil || len(links) != 7 {
		t.Errorf("%d hash links, %v, want 7", len(links), err)
	}
	// The bundle holds the old ones and the new ones, all readable.
	bundle, err := os.ReadFile(filepath.Join(certs, "ca-certificates.crt"))
	must(t, err)
	if both, err := trust.Parse(bundle); err != nil || !bytes.Contains(bundle, bytes.TrimSpace(own)) || bytes.Count(bundle, []byte("BEGIN")) != 15 {
		t.Errorf("bundle: %v, %v", both, err)
	}
	var verify bytes.Buffer
	cmd := exec.Command("openssl", "verify", "-CAfile", filepath.Join(certs, "ca-certificates.crt"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(subjects(t)["plain"]), &verify, &verify
	if err := cmd.Run(); err == nil {
		t.Error("openssl trusts a certificate that was not added")
	}
}

// A tree's links lead nowhere outside it.
func TestHostileTrees(t *testing.T) {
	set, err := trust.Parse(authority(t, named("x")))
	must(t, err)
	outside := t.TempDir()
	secret := filepath.Join(outside, "ca-certificates.crt")
	must(t, os.WriteFile(secret, []byte("host"), 0o600))
	for name, prepare := range map[string]func(root string) error{
		"no store": func(string) error { return nil },
		"certs leads out": func(root string) error {
			return errors.Join(os.MkdirAll(root+"/etc/ssl", 0o755), os.Symlink(outside, root+"/etc/ssl/certs"))
		},
		"etc leads up": func(root string) error { return os.Symlink("../../../../../../.."+outside, root+"/etc") },
		"bundle leads out": func(root string) error {
			return errors.Join(os.MkdirAll(root+"/etc/ssl/certs", 0o755), os.Symlink(secret, root+"/etc/ssl/certs/ca-certificates.crt"))
		},
		"local leads out": func(root string) error {
			return errors.Join(os.MkdirAll(root+"/etc/ssl/certs", 0o755), os.MkdirAll(root+"/usr", 0o755), os.Symlink(outside, root+"/usr/local"))
		},
		"loop": func(root string) error {
			return errors.Join(os.MkdirAll(root+"/etc/ssl", 0o755), os.Symlink("certs", root+"/etc/ssl/certs"))
		},
		"bundle is a directory": func(root string) error {
			return os.MkdirAll(root+"/etc/ssl/certs/ca-certificates.crt", 0o755)
		},
		"certs is a file": func(root string) error {
			return errors.Join(os.MkdirAll(root+"/etc/ssl", 0o755), os.WriteFile(root+"/etc/ssl/certs", nil, 0o644))
		},
	} {
		root := t.TempDir()
		must(t, prepare(root))
		_, err := set.Install(root)
		if name == "no store" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if all, rerr := os.ReadDir(outside); rerr != nil || len(all) != 1 {
			t.Fatalf("%s: outside holds %v, %v (%v)", name, all, rerr, err)
		}
		if text, rerr := os.ReadFile(secret); rerr != nil || string(text) != "host" {
			t.Fatalf("%s: %q, %v (%v)", name, text, rerr, err)
		}
	}
	// Inside, links are followed.
	root := t.TempDir()
	must(t, errors.Join(os.MkdirAll(root+"/etc/ssl", 0o755), os.MkdirAll(root+"/usr/lib/certs", 0o755), os.Symlink("/usr/lib/certs", root+"/etc/ssl/certs")))
	_, err = set.Install(root)
	must(t, err)
	if _, err := os.Stat(root + "/usr/lib/certs/ca-certificates.crt"); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(root + "/usr/local"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory was made that the tree has not: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": "", "text": "no certificate", "key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"garbage": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
	} {
		if _, err := trust.Parse([]byte(text)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
