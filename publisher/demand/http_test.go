package demand_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/publisher/demand"
)

const token = "0123456789abcdef-token"

func call(h http.Handler, method, path, auth, body string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if auth != "" {
		r.Header.Set("Authorization", auth)
	}
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func wish(image string) string { return `{"message_type":"wish","image":"` + image + `","later":1}` }

func TestHTTP(t *testing.T) {
	b := newBench(t)
	b.o.Limit = 1
	q := b.queue()
	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, []byte("another-long-token-0\n"+token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := demand.Guard{Tokens: tokens}
	if err := g.Check(); err != nil {
		t.Fatal(err)
	}
	h := q.Handler("/publish", g)
	good := "Bearer " + token
	for _, c := range []struct {
		name, method, path, auth, body string
		want                           int
	}{
		{"nobody", "POST", "/publish", "", wish(busybox), http.StatusUnauthorized},
		{"nobody looks", "GET", "/publish", "", "", http.StatusUnauthorized},
		{"nobody asks for a status", "GET", "/publish/x", "", "", http.StatusUnauthorized},
		{"wrong token", "POST", "/publish", good + "x", wish(busybox), http.StatusUnauthorized},
		{"empty token", "POST", "/publish", "Bearer ", wish(busybox), http.StatusUnauthorized},
		{"other scheme", "POST", "/publish", "Basic " + token, wish(busybox), http.StatusUnauthorized},
		{"no JSON", "POST", "/publish", good, "image", http.StatusBadRequest},
		{"other type", "POST", "/publish", good, `{"message_type":"order","image":"` + busybox + `"}`, http.StatusBadRequest},
		{"no image", "POST", "/publish", good, wish("x"), http.StatusBadRequest},
		{"huge", "POST", "/publish", good, wish(strings.Repeat("x", 20_000)), http.StatusBadRequest},
		{"not allowed", "POST", "/publish", good, wish("quay.io/x/y:1"), http.StatusForbidden},
		{"noted", "POST", "/publish", good, wish(busybox), http.StatusAccepted},
		{"noted before", "POST", "/publish", good, wish(busybox), http.StatusAccepted},
		{"full", "POST", "/publish", good, wish("ghcr.io/x/y:1"), http.StatusTooManyRequests},
		{"unknown id", "GET", "/publish/none", good, "", http.StatusNotFound},
		{"other method", "DELETE", "/publish", good, "", http.StatusMethodNotAllowed},
	} {
		w := call(h, c.method, c.path, c.auth, c.body, nil)
		if w.Code != c.want {
			t.Errorf("%s: %d, want %d: %s", c.name, w.Code, c.want, w.Body)
		}
		if c.want != http.StatusMethodNotAllowed && !strings.HasPrefix(w.Body.String(), `{"message_type":"`) {
			t.Errorf("%s: answered %s", c.name, w.Body)
		}
	}
	b.run(q)
	var e struct {
		Type string `json:"message_type"`
		demand.Entry
	}
	w := call(h, "GET", "/publish", good, "", nil)
	if err := json.NewDecoder(w.Body).Decode(&e); err != nil || e.Type != "status" || e.State != demand.Published {
		t.Fatalf("%+v, %v", e, err)
	}
	w = call(h, "GET", "/publish/"+e.ID, good, "", nil)
	if w.Code != http.StatusOK || !bytes.Contains(w.Body.Bytes(), []byte(`"state":"published"`)) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	b.fail = func(string) error { return os.ErrNotExist }
	call(h, "POST", "/publish", good, wish("ghcr.io/x/y:1"), nil)
	b.run(q)
	if w := call(h, "POST", "/publish", good, wish("ghcr.io/x/y:1"), nil); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("at once after it failed: %d %s", w.Code, w.Body)
	}
	// A token that is taken out of the file is worth nothing at once.
	if err := os.WriteFile(tokens, []byte("another-long-token-0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if w := call(h, "GET", "/publish", good, "", nil); w.Code != http.StatusUnauthorized {
		t.Errorf("with a token taken back: %d", w.Code)
	}
	for name, text := range map[string]string{"empty": "\n", "short": "secret\n" + token} {
		if err := os.WriteFile(tokens, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := g.Check(); err == nil {
			t.Errorf("%s tokens were taken", name)
		}
		if w := call(h, "GET", "/publish", good, "", nil); w.Code != http.StatusServiceUnavailable {
			t.Errorf("with %s tokens: %d", name, w.Code)
		}
	}
}

// A certificate lets in where it is said to, and nothing else does.
func TestCertificates(t *testing.T) {
	q := newBench(t).queue()
	shown := func(r *http.Request) { r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{}}}} }
	unverified := func(r *http.Request) {
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{}}}
	}
	for _, c := range []struct {
		name   string
		guard  demand.Guard
		change func(*http.Request)
		want   int
	}{
		{"none is asked for", demand.Guard{}, shown, http.StatusUnauthorized},
		{"verified", demand.Guard{Certificates: true}, shown, http.StatusOK},
		{"not verified", demand.Guard{Certificates: true}, unverified, http.StatusUnauthorized},
		{"none", demand.Guard{Certificates: true}, nil, http.StatusUnauthorized},
	} {
		if w := call(q.Handler("/publish", c.guard), "GET", "/publish", "", "", c.change); w.Code != c.want {
			t.Errorf("%s: %d, want %d", c.name, w.Code, c.want)
		}
	}
}

func TestAllowed(t *testing.T) {
	for _, bad := range []string{"", "docker", "docker.io/", "https://docker.io", "docker.io/../x", "*"} {
		if err := (demand.Allowed{bad}).Check(); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if err := (demand.Allowed{"docker.io", "docker.io/library", "localhost:5000", "ghcr.io/team/app"}).Check(); err != nil {
		t.Error(err)
	}
}
