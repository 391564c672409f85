package manifest_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
)

func seal(t testing.TB, body string, a object.Algorithm) []byte {
	t.Helper()
	raw, err := manifest.Seal([]byte(body), a, func(text []byte) ([]byte, error) {
		return append([]byte("signed "), text...), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// The hash lines of CVMFS-FORMAT 1.2.2 and 9.4.
func TestSealVectors(t *testing.T) {
	const body = "C9c44ddbcf56870b191201c7e0d7072a791cd7dcb\nB57344\nRd41d8cd98f00b204e9800998ecf8427e\nD240\nS1\n" +
		"Gyes\nAno\nNtest.example.org\nX0000000000000000000000000000000000000000\nT1700000000\n"
	const list = "20240102030405\nE20240201030405\nNtest.example.org\n" +
		"19:D7:28:70:81:DB:2B:D3:EA:5A:A3:1A:4A:34:B1:4E:AA:D0:CC:B2\n"
	for _, tc := range []struct {
		body string
		a    object.Algorithm
		hash string
	}{
		{body, object.SHA1, "c29eb099495b3f85cd003fc8caadd2d82ba6dc11"},
		{list, object.SHA1, "c0b19ada9771961bc46830e973c6e3b77063a8c1"},
		{list, object.SHAKE128, "7409027b56090d93f6515b5b61fd213d8f0982bd-shake128"},
	} {
		raw := seal(t, tc.body, tc.a)
		if want := tc.body + "--\n" + tc.hash + "\nsigned " + tc.hash; string(raw) != want {
			t.Errorf("Seal = %q, want %q", raw, want)
		}
		e, err := manifest.Open(raw)
		if err != nil || string(e.Body) != tc.body || string(e.HashText) != tc.hash || string(e.Signature) != "signed "+tc.hash {
			t.Errorf("Open = %+v, %v", e, err)
		}
	}
}

// The first separator counts, and a signature is any bytes at all.
func TestOpenSignatureIsBinary(t *testing.T) {
	sig := []byte("\n--\n\x00\xff\n--\n")
	raw, err := manifest.Seal([]byte("Cx\n"), object.SHA1, func([]byte) ([]byte, error) { return sig, nil })
	if err != nil {
		t.Fatal(err)
	}
	e, err := manifest.Open(raw)
	if err != nil || !bytes.Equal(e.Signature, sig) || string(e.Body) != "Cx\n" {
		t.Errorf("Open = %q, %v", e, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	good := seal(t, "Cx\n", object.SHA1)
	edit := func(old, now string) []byte { return bytes.Replace(good, []byte(old), []byte(now), 1) }
	for name, tc := range map[string]struct {
		raw  []byte
		want error
	}{
		"empty":              {nil, manifest.ErrMalformed},
		"no separator":       {edit("--", "-"), manifest.ErrMalformed},
		"carriage return":    {edit("--\n", "--\r\n"), manifest.ErrMalformed},
		"no hash line":       {good[:len("Cx\n--\n")+20], manifest.ErrMalformed},
		"no signature":       {good[:len("Cx\n--\n")+41], manifest.ErrMalformed},
		"not a hash":         {edit("--\n", "--\nz"), manifest.ErrMalformed},
		"endless hash line":  {edit("--\n", "--\n"+string(bytes.Repeat([]byte("0"), 100))), manifest.ErrMalformed},
		"body changed":       {edit("Cx", "Cy"), manifest.ErrSignature},
		"body shortened":     {edit("Cx", "C"), manifest.ErrSignature},
		"one byte too large": {append(good, make([]byte, manifest.MaxSize+1-len(good))...), manifest.ErrMalformed},
	} {
		if _, err := manifest.Open(tc.raw); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	sign := func([]byte) ([]byte, error) { return []byte("s"), nil }
	for _, body := range []string{"", "C", "--\nC\n", "C\n--\nD\n", "C\n--\n"} {
		if raw, err := manifest.Seal([]byte(body), object.SHA1, sign); !errors.Is(err, manifest.ErrMalformed) {
			t.Errorf("Seal(%q) = %q, %v", body, raw, err)
		}
	}
	if _, err := manifest.Seal([]byte("C\n"), 0, sign); !errors.Is(err, manifest.ErrMalformed) {
		t.Errorf("no algorithm: %v", err)
	}
	if _, err := manifest.Seal(append(make([]byte, manifest.MaxSize), '\n'), object.SHA1, sign); !errors.Is(err, manifest.ErrMalformed) {
		t.Errorf("too large: %v", err)
	}
	broken := errors.New("smart card is away")
	if _, err := manifest.Seal([]byte("C\n"), object.SHA1, func([]byte) ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("signer's error: %v", err)
	}
}

func ExampleOpen() {
	e, err := manifest.Open([]byte("Nx\n--\n0123456789abcdef0123456789abcdef01234567\nsignature"))
	fmt.Println(len(e.Body), err)
	// Output: 0 bad signature: the text hashes to f0d6462bfadb9d9c3223a37de1c222457f6a6f19, but 0123456789abcdef0123456789abcdef01234567 was signed
}
