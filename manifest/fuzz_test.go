package manifest_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
)

// FuzzEnvelope: what opens, seals again to the same bytes.
func FuzzEnvelope(f *testing.F) {
	f.Add([]byte("Cx\n--\n0123456789abcdef0123456789abcdef01234567\nsig"))
	f.Add(seal(f, "Cx\nNy\n", object.SHAKE128))
	f.Add(seal(f, "\n\n--x\n", object.RMD160))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := manifest.Open(raw)
		if err != nil {
			return
		}
		h, err := object.ParseHash(string(e.HashText))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(e.Body, []byte("--\n")) {
			return // opens as in stock, but nobody writes it
		}
		again, err := manifest.Seal(e.Body, h.Algorithm, func([]byte) ([]byte, error) { return e.Signature, nil })
		if err != nil || !bytes.Equal(again, raw) {
			t.Errorf("sealed again: %q, %v", again, err)
		}
	})
}

// FuzzManifest: what parses, prints to text that parses to the same.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add(sample(f).Print())
	f.Add([]byte("--\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := manifest.Parse(body)
		if err != nil {
			return
		}
		if again, err := manifest.Parse(m.Print()); err != nil || again != m {
			t.Errorf("%q parses to %+v, printed and parsed again to %+v, %v", body, m, again, err)
		}
	})
}

// FuzzWhitelist: what parses, prints to text that means the same.
func FuzzWhitelist(f *testing.F) {
	f.Add([]byte(listBody))
	f.Add([]byte(listBody + "Vpkcs7\n"))
	f.Add([]byte("20240102030405\nE20240201030405\nN\n7f9c2ba4e88f827d616045507605853ed73b8093-shake128 # x\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		w, err := manifest.ParseWhitelist(body)
		if err != nil {
			return
		}
		again, err := manifest.ParseWhitelist(w.Print())
		if err != nil || again.Name != w.Name || !again.Expires.Equal(w.Expires) || len(again.Fingerprints) != len(w.Fingerprints) {
			t.Errorf("%q parses to %+v, printed and parsed again to %+v, %v", body, w, again, err)
		}
	})
}

// What a blacklist says twice it says once, and nothing in it panics.
func FuzzBlacklist(f *testing.F) {
	f.Add([]byte("# none\n"), uint64(1))
	f.Add([]byte("<r.example.org 7\nDF:4E:07:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:A7 # stolen\n"), uint64(6))
	f.Fuzz(func(t *testing.T, text []byte, revision uint64) {
		b, err := manifest.ParseBlacklist(text)
		if err != nil {
			if !errors.Is(err, manifest.ErrMalformed) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		twice, err := manifest.ParseBlacklist(append(append(bytes.Clone(text), '\n'), text...))
		if err != nil || twice.Revision("r.example.org", revision) != b.Revision("r.example.org", revision) {
			t.Errorf("said twice: %v", err)
		}
	})
}
