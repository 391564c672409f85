package trust_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"encoding/pem"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/rootfsprovider/trust"
)

// keystore reads a JKS of trusted certificates, by alias, as Java does: the
// seal is looked at first.
func keystore(t *testing.T, file string) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	end := len(text) - sha1.Size
	h := sha1.New()
	for _, c := range "changeit" {
		h.Write([]byte{0, byte(c)})
	}
	h.Write([]byte("Mighty Aphrodite"))
	h.Write(text[:end])
	if !bytes.Equal(h.Sum(nil), text[end:]) {
		t.Fatal("the seal is broken")
	}
	r := bytes.NewReader(text[:end])
	number := func() (n uint32) { must(t, binary.Read(r, binary.BigEndian, &n)); return n }
	take := func(n int) []byte {
		b := make([]byte, n)
		must(t, binary.Read(r, binary.BigEndian, b))
		return b
	}
	word := func() string { return string(take(int(binary.BigEndian.Uint16(take(2))))) }
	if number() != 0xfeedfeed || number() != 2 {
		t.Fatal("no JKS of version 2")
	}
	all := map[string][]byte{}
	for range number() {
		if kind := number(); kind != 2 {
			t.Fatalf("an entry of kind %d", kind)
		}
		alias := word()
		take(8)
		if kind := word(); kind != "X.509" {
			t.Errorf("%s is a %s", alias, kind)
		}
		all[alias] = take(int(number()))
	}
	if r.Len() > 0 {
		t.Errorf("%d bytes after the last entry", r.Len())
	}
	return all
}

// withKeystore makes a tree with Java's keystore, a copy of file.
func withKeystore(t *testing.T, file string) (root, store string) {
	t.Helper()
	root = t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "etc/ssl/certs/java"), 0o755))
	store = filepath.Join(root, "etc/ssl/certs/java/cacerts")
	text, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(store, text, 0o644))
	return root, store
}

// testdata/cacerts.jks was made by Java 17's keytool.
func TestJavaKeystore(t *testing.T) {
	root, store := withKeystore(t, "testdata/cacerts.jks")
	own := keystore(t, store)
	if len(own) != 1 {
		t.Fatalf("keytool made %v", slices.Collect(maps.Keys(own)))
	}
	a, b := authority(t, named("A")), authority(t, named("B"))
	set, err := trust.Parse(append(slices.Clone(a), b...))
	must(t, err)
	_, err = set.Install(root)
	must(t, err)
	once, err := os.ReadFile(store)
	must(t, err)
	_, err = set.Install(root)
	must(t, err)
	if twice, err := os.ReadFile(store); err != nil || !bytes.Equal(once, twice) {
		t.Errorf("a second time changes the keystore, %v", err)
	}
	got := keystore(t, store)
	for alias, der := range own {
		if !bytes.Equal(got[alias], der) {
			t.Errorf("%s is lost", alias)
		}
	}
	var found int
	for alias, der := range got {
		for _, text := range [][]byte{a, b} {
			if block, _ := pem.Decode(text); bytes.Equal(block.Bytes, der) && strings.HasPrefix(alias, "rootstock-") {
				found++
			}
		}
	}
	if found != 2 || len(got) != 3 {
		t.Errorf("%d of ours among %v", found, slices.Collect(maps.Keys(got)))
	}
	if keytool, err := exec.LookPath("keytool"); err == nil { // where there is a Java, it is asked, too
		out, err := exec.Command(keytool, "-list", "-storepass", "changeit", "-keystore", store).CombinedOutput()
		if err != nil || strings.Count(string(out), "trustedCertEntry") != 3 {
			t.Errorf("keytool: %v\n%s", err, out)
		}
	}
}

// testdata/*.p12 were made by Java 17's keytool: as it does by itself, as Java 8
// to 15 did, and without a password. openssl, and a Java where there is one, have
// to see the certificates that were there and those that were added.
func TestPKCS12Keystore(t *testing.T) {
	for name, options := range map[string][]string{"cacerts.p12": nil, "legacy.p12": {"-legacy"}, "open.p12": nil} {
		t.Run(name, func(t *testing.T) {
			root, store := withKeystore(t, "testdata/"+name)
			a, b := authority(t, named("A")), authority(t, named("B"))
			for _, text := range [][]byte{a, b, append(slices.Clone(a), b...)} { // the last are there already
				set, err := trust.Parse(text)
				must(t, err)
				left, err := set.Install(root)
				must(t, err)
				if left != "" {
					t.Errorf("left: %s", left)
				}
			}
			said, err := exec.Command("openssl", append([]string{"pkcs12", "-in", store, "-passin", "pass:changeit", "-nokeys"}, options...)...).Output()
			must(t, err)
			set, err := trust.Parse(said)
			must(t, err)
			for _, text := range [][]byte{a, b} {
				if !bytes.Contains(said, bytes.TrimSpace(text)) {
					t.Errorf("openssl finds\n%s\nand not\n%s", said, text)
				}
			}
			if n := bytes.Count(said, []byte("BEGIN CERTIFICATE")); n != 3 || bytes.Count(said, []byte("friendlyName: rootstock-")) != 2 {
				t.Errorf("%d certificates, want 3: %v\n%s", n, set, said)
			}
			if keytool, err := exec.LookPath("keytool"); err == nil {
				out, err := exec.Command(keytool, "-list", "-storepass", "changeit", "-keystore", store).CombinedOutput()
				if err != nil || strings.Count(string(out), "trustedCertEntry") != 3 {
					t.Errorf("keytool: %v\n%s", err, out)
				}
			}
		})
	}
}

// What is neither, or sealed with another password, or damaged, is nobody's to
// change, and no reason to fail; but it is said.
func TestOtherKeystores(t *testing.T) {
	jks, err := os.ReadFile("testdata/cacerts.jks")
	must(t, err)
	p12, err := os.ReadFile("testdata/cacerts.p12")
	must(t, err)
	other, err := os.ReadFile("testdata/other.p12")
	must(t, err)
	changed := func(text []byte, at int) []byte {
		text = slices.Clone(text)
		text[at] ^= 1
		return text
	}
	for name, text := range map[string][]byte{
		"neither": {0x30, 0x82, 0x01, 0x00}, "empty": {}, "header": jks[:12], "damaged": changed(jks, len(jks)/2), "cut": jks[:len(jks)-1],
		"version 1":        append([]byte{0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 1}, jks[8:]...),
		"another password": other, "PKCS12, damaged": changed(p12, len(p12)/2), "PKCS12, another seal": changed(p12, len(p12)-30),
		"PKCS12, cut": p12[:len(p12)-1], "PKCS12 and more": append(slices.Clone(p12), 0),
	} {
		root, store := withKeystore(t, "testdata/cacerts.jks")
		must(t, os.WriteFile(store, text, 0o644))
		set, err := trust.Parse(authority(t, named("A")))
		must(t, err)
		left, err := set.Install(root)
		if err != nil || !strings.Contains(left, "/etc/ssl/certs/java/cacerts is neither") {
			t.Errorf("%s: left %q, %v", name, left, err)
		}
		if got, err := os.ReadFile(store); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s has changed, %v", name, err)
		}
	}
}
