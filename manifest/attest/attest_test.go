package attest_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/manifest/attest"
	"github.com/rootstock-cf/rootstock/object"
)

func signer(t testing.TB, kind string) *attest.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	if kind == "rsa" {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		_, key, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := attest.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var tree = object.ContentOf([]byte("a listing"))

func about(name string) attest.Statement {
	return attest.Statement{Name: name, Tree: tree, Derived: time.Unix(1700000000, 0).UTC(), Source: attest.Source{
		Kind: "rootfs", Name: "demo.tar.gz", Digest: "sha256:aa", DiffIDs: []string{"sha256:bb"},
	}}
}

func sign(t testing.TB, s *attest.Signer, st attest.Statement) []byte {
	t.Helper()
	line, err := s.Sign(st)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func TestSignAndOpen(t *testing.T) {
	for _, kind := range []string{"rsa", "ed25519"} {
		s := signer(t, kind)
		want := about("rootfs/demo@1")
		got, err := attest.Open(sign(t, s, want), s.Key)
		if err != nil {
			t.Fatal(err)
		}
		want.Signer = s.ID
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("%s: %s", kind, diff)
		}
		if err := got.About("rootfs/demo@1", tree); err != nil {
			t.Error(err)
		}
		for _, err := range []error{got.About("rootfs/demo@2", tree), got.About("rootfs/demo@1", object.ContentOf(nil))} {
			if !errors.Is(err, attest.ErrOther) {
				t.Errorf("about another: %v", err)
			}
		}
	}
}

// dsse is an envelope that anybody may write, signed by an Ed25519 key.
func dsse(t *testing.T, key ed25519.PrivateKey, payloadType string, payload []byte) map[string]any {
	t.Helper()
	pae := fmt.Sprintf("DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
	return map[string]any{
		"payloadType": payloadType, "payload": base64.StdEncoding.EncodeToString(payload),
		"signatures": []map[string]string{{"keyid": "whatever", "sig": base64.StdEncoding.EncodeToString(ed25519.Sign(key, []byte(pae)))}},
	}
}

// Whatever is wrong with an envelope, it does not count, and says why.
func TestHostileEnvelopes(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := attest.KeyOf(public)
	if err != nil {
		t.Fatal(err)
	}
	good := func() map[string]any {
		return map[string]any{
			"_type": attest.StatementType, "predicateType": attest.PredicateType,
			"subject": []any{map[string]any{"name": "rootfs/demo@1", "digest": map[string]string{"sha256": tree.String()}}},
			"predicate": map[string]any{
				"source": map[string]any{"kind": "rootfs"}, "listingFormat": 1, "derived": "2026-01-01T00:00:00Z", "signer": key.ID,
			},
		}
	}
	payload := func(change func(st map[string]any)) []byte {
		st := good()
		if change != nil {
			change(st)
		}
		b, err := json.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	in := func(st map[string]any, name string) map[string]any { return st[name].(map[string]any) }
	for name, tc := range map[string]struct {
		payloadType string
		payload     []byte
		envelope    func(e map[string]any)
		want        error
		says        string
	}{
		"good":          {payload: payload(nil)},
		"unknown field": {payload: payload(func(st map[string]any) { st["more"] = 1 })},
		"url alphabet": {payload: payload(func(st map[string]any) { st["more"] = "???>>>" }), envelope: func(e map[string]any) {
			e["payload"] = strings.NewReplacer("+", "-", "/", "_").Replace(e["payload"].(string))
		}},
		"tampered payload": {payload: payload(nil), want: attest.ErrSignature, envelope: func(e map[string]any) {
			e["payload"] = base64.StdEncoding.EncodeToString(payload(func(st map[string]any) { st["more"] = 1 }))
		}},
		"other payload type": {payloadType: "application/json", payload: payload(nil), want: attest.ErrMalformed, says: "application/json"},
		// A signature of other text than an attestation's must not pass for one.
		"payload type put in place": {payloadType: "application/json", payload: payload(nil), want: attest.ErrSignature, envelope: func(e map[string]any) {
			e["payloadType"] = attest.PayloadType
		}},
		"no signature": {payload: payload(nil), want: attest.ErrMalformed, envelope: func(e map[string]any) { e["signatures"] = nil }},
		"two signatures": {payload: payload(nil), want: attest.ErrMalformed, says: "2 signatures", envelope: func(e map[string]any) {
			one := e["signatures"].([]map[string]string)
			e["signatures"] = append(one, one[0])
		}},
		"no base64":          {payload: payload(nil), want: attest.ErrMalformed, envelope: func(e map[string]any) { e["payload"] = "%" }},
		"too large":          {payload: payload(nil), want: attest.ErrMalformed, says: "more than", envelope: func(e map[string]any) { e["x"] = strings.Repeat("x", attest.MaxEnvelope) }},
		"payload is no JSON": {payload: []byte("{"), want: attest.ErrMalformed},
		"other statement":    {payload: payload(func(st map[string]any) { st["_type"] = "x" }), want: attest.ErrMalformed},
		"other predicate":    {payload: payload(func(st map[string]any) { st["predicateType"] = "https://slsa.dev/provenance/v1" }), want: attest.ErrMalformed},
		"no subject":         {payload: payload(func(st map[string]any) { st["subject"] = []any{} }), want: attest.ErrMalformed},
		"two subjects": {payload: payload(func(st map[string]any) {
			st["subject"] = append(st["subject"].([]any), st["subject"].([]any)[0])
		}), want: attest.ErrMalformed},
		"no tree id": {payload: payload(func(st map[string]any) {
			st["subject"].([]any)[0].(map[string]any)["digest"] = map[string]string{"sha512": "aa"}
		}), want: attest.ErrMalformed},
		"other listing format": {payload: payload(func(st map[string]any) { in(st, "predicate")["listingFormat"] = 2 }), want: attest.ErrMalformed, says: "format 2"},
		"other signer's name":  {payload: payload(func(st map[string]any) { in(st, "predicate")["signer"] = "bob" }), want: attest.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.payloadType == "" {
				tc.payloadType = attest.PayloadType
			}
			e := dsse(t, private, tc.payloadType, tc.payload)
			if tc.envelope != nil {
				tc.envelope(e)
			}
			line, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = attest.Open(line, key); !errors.Is(err, tc.want) || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestOtherKeys(t *testing.T) {
	a, b := signer(t, "ed25519"), signer(t, "rsa")
	line := sign(t, a, about("rootfs/demo@1"))
	if _, err := attest.Open(line, b.Key); !errors.Is(err, attest.ErrSignature) {
		t.Errorf("by another key: %v", err)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := attest.NewSigner(private); !errors.Is(err, attest.ErrKey) {
		t.Errorf("ECDSA: %v", err)
	}
}

func TestBundle(t *testing.T) {
	a, b := signer(t, "ed25519"), signer(t, "ed25519")
	with := func(bundle attest.Bundle, line []byte) attest.Bundle {
		t.Helper()
		got, err := bundle.With(line, a.Key)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	one := with(nil, sign(t, a, about("one")))
	junk := append(append([]byte("junk\n"), sign(t, b, about("one"))...), '\n')
	two := with(append(junk, one...), sign(t, a, about("two")))
	if n := strings.Count(string(two), "\n"); n != 2 || strings.Contains(string(two), "junk") {
		t.Errorf("%d lines of which two are the signer's: %s", n, two)
	}
	for _, name := range []string{"one", "two"} {
		if st, err := two.Find(name, a.Key); err != nil || st.Name != name {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	later := about("one")
	later.Derived = later.Derived.Add(time.Hour)
	again := with(two, sign(t, a, later))
	if st, err := again.Find("one", a.Key); err != nil || !st.Derived.Equal(later.Derived) || strings.Count(string(again), "\n") != 2 {
		t.Errorf("said again: %v, %v, %s", st, err, again)
	}
	if _, err := two.Find("three", a.Key); !errors.Is(err, attest.ErrOther) {
		t.Errorf("of another name: %v", err)
	}
	if _, err := attest.Bundle(junk).Find("one", a.Key); !errors.Is(err, attest.ErrSignature) {
		t.Errorf("somebody else's: %v", err)
	}
	if st, err := append(attest.Bundle(junk), one...).Find("one", a.Key); err != nil || st.Name != "one" {
		t.Errorf("behind what is wrong: %v, %v", st, err)
	}
	if _, err := attest.Bundle(nil).Find("one", a.Key); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("empty: %v", err)
	}
	if _, err := two.With(sign(t, b, about("one")), a.Key); !errors.Is(err, attest.ErrSignature) {
		t.Errorf("added somebody else's: %v", err)
	}
	var indented []byte
	var v any
	if err := json.Unmarshal(sign(t, a, about("three")), &v); err != nil {
		t.Fatal(err)
	}
	indented, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if st, err := with(nil, indented).Find("three", a.Key); err != nil || st.Name != "three" {
		t.Errorf("written over several lines: %v, %v", st, err)
	}
}

// A bundle stays within its bound: what is oldest makes room.
func TestBundleMakesRoom(t *testing.T) {
	s := signer(t, "ed25519")
	large := func(name string) []byte {
		st := about(name)
		for i := range 900 {
			st.Source.DiffIDs = append(st.Source.DiffIDs, fmt.Sprintf("sha256:%x", sha256.Sum256([]byte{byte(i), byte(i >> 8)})))
		}
		return sign(t, s, st)
	}
	var b attest.Bundle
	const n = 15
	for i := range n {
		var err error
		if b, err = b.With(large(fmt.Sprint("v", i)), s.Key); err != nil {
			t.Fatal(err)
		}
	}
	if len(b) > attest.MaxBundle || len(b) < attest.MaxBundle/2 {
		t.Errorf("%d bytes", len(b))
	}
	if _, err := b.Find(fmt.Sprint("v", n-1), s.Key); err != nil {
		t.Errorf("the newest: %v", err)
	}
	if _, err := b.Find("v0", s.Key); !errors.Is(err, attest.ErrOther) {
		t.Errorf("the oldest: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	s := signer(f, "ed25519")
	good := sign(f, s, about("rootfs/demo@1"))
	f.Add(good)
	f.Add([]byte(`{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[{"sig":""}]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		st, err := attest.Open(line, s.Key)
		if err == nil && (st.Name != "rootfs/demo@1" || st.Tree != tree || st.Signer != s.ID) {
			t.Errorf("opened %+v, which nobody signed", st)
		}
	})
}
