package object_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/rootstock-cf/rootstock/object"
)

// CVMFS-FORMAT 9.1.
func TestHashVectors(t *testing.T) {
	for _, tc := range []struct {
		a        object.Algorithm
		in, want string
	}{
		{object.SHA1, "", "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
		{object.SHA1, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
		{object.RMD160, "", "9c1185a5c5e9fc54612808977ee8f548b2258d31-rmd160"},
		{object.RMD160, "abc", "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc-rmd160"},
		{object.SHAKE128, "", "7f9c2ba4e88f827d616045507605853ed73b8093-shake128"},
		{object.SHAKE128, "abc", "5881092dd818bf5cf8a3ddb793fbcba74097d5c5-shake128"},
	} {
		h := tc.a.Sum([]byte(tc.in))
		if h.String() != tc.want {
			t.Errorf("%s(%q) = %s, want %s", tc.a, tc.in, h, tc.want)
		}
		if back, err := object.ParseHash(tc.want); err != nil || back != h {
			t.Errorf("ParseHash(%q) = %v, %v", tc.want, back, err)
		}
		if back, err := object.FromDigest(tc.a, h.Digest[:]); err != nil || back != h {
			t.Errorf("FromDigest(%s) = %v, %v", tc.want, back, err)
		}
	}
}

// Sum of a running hash must not disturb it.
func TestSumIsRepeatable(t *testing.T) {
	for _, a := range []object.Algorithm{object.SHA1, object.RMD160, object.SHAKE128} {
		h := a.New()
		h.Write([]byte("ab"))
		h.Sum(nil)
		h.Write([]byte("c"))
		if got := object.FromSum(a, h); got != a.Sum([]byte("abc")) {
			t.Errorf("%s: Sum changed the running hash", a)
		}
	}
}

func TestParseHashRefuses(t *testing.T) {
	for _, s := range []string{
		"", "da39", "DA39A3EE5E6B4B0D3255BFEF95601890AFD80709",
		"da39a3ee5e6b4b0d3255bfef95601890afd80709C",
		"da39a3ee5e6b4b0d3255bfef95601890afd80709-md5",
		"da39a3ee5e6b4b0d3255bfef95601890afd807zz",
		"-shake128", "d41d8cd98f00b204e9800998ecf8427e",
	} {
		if h, err := object.ParseHash(s); !errors.Is(err, object.ErrBadHash) {
			t.Errorf("ParseHash(%q) = %v, %v", s, h, err)
		}
	}
}

func TestPathRoundTrip(t *testing.T) {
	for _, a := range []object.Algorithm{object.SHA1, object.RMD160, object.SHAKE128} {
		for _, typ := range []object.Type{
			object.Bulk, object.Partial, object.Catalog, object.History,
			object.Certificate, object.Metainfo,
		} {
			h := a.Sum([]byte("x"))
			gotH, gotT, ok := object.ParsePath(object.Path(h, typ))
			if !ok || gotH != h || gotT != typ {
				t.Errorf("ParsePath(%s) = %v, %v, %v", object.Path(h, typ), gotH, gotT, ok)
			}
		}
	}
	for _, p := range []string{"", "data/", "data/xx/yy", "data/5/798f7f4ca7585d850eea64610a1f73d8f8de7a3", "data/57/98f7f4ca7585d850eea64610a1f73d8f8de7a3T"} {
		if _, _, ok := object.ParsePath(p); ok {
			t.Errorf("ParsePath(%q) accepted", p)
		}
	}
}

func ExamplePath() {
	h, _ := object.ParseHash("5798f7f4ca7585d850eea64610a1f73d8f8de7a3-shake128")
	fmt.Println(object.Path(h, object.Bulk))
	fmt.Println(object.Path(h, object.Partial))
	// Output:
	// data/57/98f7f4ca7585d850eea64610a1f73d8f8de7a3-shake128
	// data/57/98f7f4ca7585d850eea64610a1f73d8f8de7a3-shake128P
}

func ExampleContentID_CachePath() {
	fmt.Println(object.ContentOf([]byte("hello\n")).CachePath())
	// Output: 58/91b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03
}
