package manifest_test

import (
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
)

const minimal = "C9c44ddbcf56870b191201c7e0d7072a791cd7dcb\nRd41d8cd98f00b204e9800998ecf8427e\nD240\nS1\n"

// The stock order, in which other programs expect the lines.
func TestPrintOrder(t *testing.T) {
	var letters strings.Builder
	for line := range strings.Lines(string(sample(t).Print())) {
		letters.WriteByte(line[0])
	}
	if got, want := letters.String(), "CBRDSGANXHTMY"; got != want {
		t.Errorf("lines %s, want %s", got, want)
	}
	bare := manifest.Manifest{RootCatalog: object.SHA1.Sum(nil)}
	want := "Cda39a3ee5e6b4b0d3255bfef95601890afd80709\nB0\nRd41d8cd98f00b204e9800998ecf8427e\nD0\nS0\nGno\nAno\n"
	if got := string(bare.Print()); got != want {
		t.Errorf("without the optional lines:\n%s", got)
	}
}

// What stock wrote reads, and prints back to the same bytes.
func TestGoldenRoundTrip(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(golden(t), "*", "repo", manifest.FileName))
	if err != nil || len(files) < 8 {
		t.Fatalf("%d golden repositories, %v", len(files), err)
	}
	for _, file := range files {
		e, err := manifest.Open(readFile(t, file))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		m, err := manifest.Parse(e.Body)
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if diff := cmp.Diff(string(e.Body), string(m.Print())); diff != "" {
			t.Errorf("%s printed again:\n%s", file, diff)
		}
	}
}

func TestParse(t *testing.T) {
	want := manifest.Manifest{RootCatalog: mustHash(t, "9c44ddbcf56870b191201c7e0d7072a791cd7dcb"), TTL: 240, Revision: 1}
	for name, tc := range map[string]struct {
		body string
		edit func(*manifest.Manifest)
	}{
		"minimal":          {minimal, func(*manifest.Manifest) {}},
		"any order":        {"S1\nD240\nRd41d8cd98f00b204e9800998ecf8427e\nC9c44ddbcf56870b191201c7e0d7072a791cd7dcb\n", func(*manifest.Manifest) {}},
		"unknown letters":  {"Zx\nZy\nLz\n?\n" + minimal + "Qx\n\n", func(*manifest.Manifest) {}},
		"the last counts":  {"S9\nNa\nNb\n" + minimal, func(m *manifest.Manifest) { m.Name = "b" }},
		"no final newline": {minimal + "Nb", func(m *manifest.Manifest) { m.Name = "b" }},
		"stops at --":      {minimal + "--\nS9\n", func(*manifest.Manifest) {}},
		"only yes is yes":  {minimal + "GYes\nA1\n", func(*manifest.Manifest) {}},
		"flags":            {minimal + "Gyes\nAyes\n", func(m *manifest.Manifest) { m.GarbageCollectable, m.AltPaths = true, true }},
		"64 bits":          {minimal + "S18446744073709551615\n", func(m *manifest.Manifest) { m.Revision = 1<<64 - 1 }},
		"size and time":    {minimal + "B9223372036854775807\nT1\n", func(m *manifest.Manifest) { m.CatalogSize, m.Published = 1<<63-1, 1 }},
		"32 bits of TTL":   {minimal + "D4294967295\n", func(m *manifest.Manifest) { m.TTL = 1<<32 - 1 }},
		"hash of other kind": {minimal + "M7f9c2ba4e88f827d616045507605853ed73b8093-shake128\n", func(m *manifest.Manifest) {
			m.Metainfo = object.SHAKE128.Sum(nil)
		}},
	} {
		m, err := manifest.Parse([]byte(tc.body))
		want := want
		tc.edit(&want)
		if err != nil || m != want {
			t.Errorf("%s: %v\n%s", name, err, cmp.Diff(want, m))
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, body := range map[string]string{
		"empty": "", "only the end": "--\n" + minimal,
		"no C": drop("C"), "no R": drop("R"), "no D": drop("D"), "no S": drop("S"),
		"another root path":    strings.Replace(minimal, "Rd4", "Rd5", 1),
		"hash with a type":     strings.Replace(minimal, "dcb\n", "dcbC\n", 1),
		"upper-case hash":      strings.Replace(minimal, "dcb\n", "DCB\n", 1),
		"MD5 as a hash":        minimal + "Xd41d8cd98f00b204e9800998ecf8427e\n",
		"carriage returns":     strings.ReplaceAll(minimal, "\n", "\r\n"),
		"revision with a sign": minimal + "S+1\n", "no revision": minimal + "S\n",
		"revision too large": minimal + "S18446744073709551616\n", "TTL too large": minimal + "D4294967296\n",
		"negative size": minimal + "B-1\n", "time too large": minimal + "T9223372036854775808\n",
		"hexadecimal": minimal + "T0x10\n", "underscore": minimal + "S1_0\n",
	} {
		if m, err := manifest.Parse([]byte(body)); !errors.Is(err, manifest.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

func drop(letter string) string {
	var b strings.Builder
	for line := range strings.Lines(minimal) {
		if !strings.HasPrefix(line, letter) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// Stock programs read 4096 bytes of a manifest from disk. The longest there can
// be, signed by the longest key that is accepted, is below that.
func TestLongestManifest(t *testing.T) {
	h := object.SHAKE128.Sum(nil)
	m := manifest.Manifest{
		RootCatalog: h, CatalogSize: math.MaxInt64, TTL: math.MaxUint32, Revision: math.MaxUint64, GarbageCollectable: true, AltPaths: true,
		Name: strings.Repeat("n", 60), Certificate: h, History: h, Published: math.MaxInt64, Metainfo: h, Reflog: h,
	}
	if err := manifest.CheckName(m.Name + "n"); err == nil {
		t.Error("there are longer names")
	}
	const longestSignature = 16384 / 8
	if n := len(m.Print()) + len("--\n"+h.String()+"\n") + longestSignature; n >= 4096 {
		t.Errorf("%d bytes", n)
	}
}

func TestSignRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		edit func(*manifest.Manifest)
		want error
	}{
		"no name":         {func(m *manifest.Manifest) { m.Name = "" }, manifest.ErrName},
		"name with lines": {func(m *manifest.Manifest) { m.Name = "a\nS99" }, manifest.ErrName},
		"no catalog":      {func(m *manifest.Manifest) { m.RootCatalog = object.Hash{} }, manifest.ErrMalformed},
		"no certificate":  {func(m *manifest.Manifest) { m.Certificate = object.Hash{} }, manifest.ErrMalformed},
		"negative size":   {func(m *manifest.Manifest) { m.CatalogSize = -1 }, manifest.ErrMalformed},
		"before 1970":     {func(m *manifest.Manifest) { m.Published = -1 }, manifest.ErrMalformed},
	} {
		m := sample(t)
		tc.edit(&m)
		if raw, err := m.Sign(ours().Release, object.SHAKE128); !errors.Is(err, tc.want) {
			t.Errorf("%s: %q, %v", name, raw, err)
		}
	}
	raw, err := sample(t).Sign(ours().Release, object.SHAKE128)
	if err != nil || len(raw) >= 4096 {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
}

func mustHash(t testing.TB, s string) object.Hash {
	t.Helper()
	h, err := object.ParseHash(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}
