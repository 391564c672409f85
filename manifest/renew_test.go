package manifest_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
)

func TestRenewal(t *testing.T) {
	a := manifest.Certificate{DER: []byte("a")}
	b := manifest.Certificate{DER: []byte("b")}
	now := time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)
	w := manifest.Renewal{
		Name: "t.example.org", Listed: []object.Hash{a.Fingerprint(object.SHA1)},
		Certificates: []manifest.Certificate{a, b, b}, Now: now, Validity: 48 * time.Hour, Algorithm: object.SHAKE128,
	}.Whitelist()
	want := manifest.Whitelist{
		Name: "t.example.org", Created: now, Expires: now.Add(48 * time.Hour),
		Fingerprints: []object.Hash{a.Fingerprint(object.SHA1), b.Fingerprint(object.SHAKE128)}, // each once, whatever its hash
	}
	if diff := cmp.Diff(want, w); diff != "" {
		t.Error(diff)
	}
	if !w.Lists(a) || !w.Lists(b) || w.Lists(manifest.Certificate{DER: []byte("c")}) {
		t.Error("the wrong certificates are listed")
	}
}
