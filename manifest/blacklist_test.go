package manifest_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
)

func blacklist(t testing.TB, lines ...string) manifest.Blacklist {
	t.Helper()
	b, err := manifest.ParseBlacklist([]byte(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBlacklist(t *testing.T) {
	b := blacklist(t, "# withdrawn in May", "", manifest.FormatFingerprint(object.SHAKE128.Sum([]byte("der")))+"  # stolen",
		"<a.example.org 12", "< a.example.org 7", "<b.example.org\t3 # bad")
	for _, tc := range []struct {
		fqrn     string
		revision uint64
		want     bool
	}{
		{"a.example.org", 11, true},
		{"a.example.org", 12, false},
		{"a.example.org", 0, true},
		{"b.example.org", 2, true},
		{"b.example.org", 3, false},
		{"c.example.org", 0, false},
		{"", 0, false},
	} {
		if got := b.Revision(tc.fqrn, tc.revision); got != tc.want {
			t.Errorf("%s revision %d: %v", tc.fqrn, tc.revision, got)
		}
	}
	if !b.Certificate([]byte("der")) || b.Certificate([]byte("other")) {
		t.Error("wrong certificate withdrawn")
	}
	var none manifest.Blacklist
	if none.Certificate([]byte("der")) || none.Revision("a.example.org", 0) {
		t.Error("an empty blacklist withdraws")
	}
	for _, line := range []string{"<a.example.org", "<a.example.org x", "<a/b 1", "<a.example.org 1 2", "AB:CD", "a.example.org 1", "< 1 -1"} {
		_, err := manifest.ParseBlacklist([]byte("# first\n" + line))
		if !errors.Is(err, manifest.ErrMalformed) || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%q: %v", line, err)
		}
	}
}

func TestMark(t *testing.T) {
	m := sample(t)
	m.RootCatalog = mustHash(t, "9c44ddbcf56870b191201c7e0d7072a791cd7dcb")
	m.Revision = 1
	const text = "9c44ddbcf56870b191201c7e0d7072a791cd7dcbT1700000000R1" // CVMFS-FORMAT 6.6
	if got := m.Mark().String(); got != text {
		t.Errorf("printed %s", got)
	}
	if k, err := manifest.ParseMark(text); err != nil || k != m.Mark() {
		t.Errorf("parsed %+v, %v", k, err)
	}
	k, err := manifest.ParseMark("7f9c2ba4e88f827d616045507605853ed73b8093-shake128T5")
	if err != nil || k != (manifest.Mark{RootCatalog: object.SHAKE128.Sum(nil), Published: 5}) {
		t.Errorf("old form: %+v, %v", k, err)
	}
	for _, s := range []string{"", "T1R1", text + "\n", text[:40], strings.Replace(text, "R", "Rx", 1), strings.Replace(text, "T", "T-", 1)} {
		if k, err := manifest.ParseMark(s); !errors.Is(err, manifest.ErrMalformed) {
			t.Errorf("%q: %+v, %v", s, k, err)
		}
	}
}

func TestNewer(t *testing.T) {
	m := sample(t)
	for name, tc := range map[string]struct {
		prev func(*manifest.Mark)
		want error
	}{
		"the same":             {func(*manifest.Mark) {}, nil},
		"nothing seen":         {func(k *manifest.Mark) { *k = manifest.Mark{} }, nil},
		"a step":               {func(k *manifest.Mark) { k.Revision--; k.Published--; k.RootCatalog = object.Hash{} }, nil},
		"another catalog":      {func(k *manifest.Mark) { k.Revision--; k.RootCatalog = object.SHA1.Sum(nil) }, nil},
		"same second":          {func(k *manifest.Mark) { k.Revision-- }, nil},
		"revision back":        {func(k *manifest.Mark) { k.Revision++ }, manifest.ErrRollback},
		"time back":            {func(k *manifest.Mark) { k.Revision--; k.Published++ }, manifest.ErrRollback},
		"two under one number": {func(k *manifest.Mark) { k.RootCatalog = object.SHA1.Sum(nil) }, manifest.ErrRollback},
		"mark without catalog": {func(k *manifest.Mark) { k.RootCatalog = object.Hash{} }, nil},
	} {
		k := m.Mark()
		tc.prev(&k)
		if err := manifest.Newer(k, m); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"a", "9.x", "cms.cern.ch", "A_b-c.d", strings.Repeat("x", 60)} {
		if err := manifest.CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ".a", "-a", "_a", "a/b", "a b", "a\n", "a\x00", "ä", "..", strings.Repeat("x", 61)} {
		if err := manifest.CheckName(name); !errors.Is(err, manifest.ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
