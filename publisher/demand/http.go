package demand

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// Bounds on what is read, in bytes.
const (
	maxBody  = 8 << 10
	maxToken = 64 << 10
	minToken = 16
)

// Guard says who may ask. One that is empty lets nobody in.
type Guard struct {
	// Tokens is a file of bearer tokens, one per line; it is read anew for
	// each request, so that they can be changed. "" is none.
	Tokens string
	// Certificates lets in who has shown a certificate of an authority of the
	// server's, where no token is asked for.
	Certificates bool
}

// Check reads the tokens once.
func (g Guard) Check() error {
	if g.Tokens == "" {
		return nil
	}
	_, err := g.tokens()
	return err
}

func (g Guard) tokens() ([]string, error) {
	f, err := os.Open(g.Tokens)
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(io.LimitReader(f, maxToken))
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	all := strings.Fields(string(text))
	for _, t := range all {
		if len(t) < minToken {
			return nil, fmt.Errorf("tokens %s: a token of %d bytes can be guessed; want at least %d", g.Tokens, len(t), minToken)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("tokens %s: it is empty", g.Tokens)
	}
	return all, nil
}

// admits reports whether the request may ask.
func (g Guard) admits(r *http.Request) (bool, error) {
	if g.Tokens == "" {
		return g.Certificates && r.TLS != nil && len(r.TLS.VerifiedChains) > 0, nil
	}
	all, err := g.tokens()
	if err != nil {
		return false, err
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	got, ok := sha256.Sum256([]byte(token)), 0
	for _, t := range all {
		want := sha256.Sum256([]byte(t))
		ok |= subtle.ConstantTimeCompare(got[:], want[:])
	}
	return ok == 1 && strings.EqualFold(scheme, "Bearer"), nil
}

// request is what is posted (docs/design/wishes.md).
type request struct {
	Type  string `json:"message_type"`
	Image string `json:"image"`
	// Anew asks for an image although it is published, since its tag may
	// have moved.
	Anew bool `json:"anew"`
}

type statusLine struct {
	Type string `json:"message_type"`
	Entry
}

type errorLine struct {
	Type  string `json:"message_type"`
	Error string `json:"error"`
}

// Handler takes wishes posted to prefix and answers what became of them:
//
//	POST prefix       {"message_type":"wish","image":"REGISTRY/REPOSITORY:TAG"}
//	GET  prefix/ID    the status of one
//	GET  prefix       all that is known, one per line
func (q *Queue) Handler(prefix string, g Guard) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+prefix, q.post)
	mux.HandleFunc("GET "+prefix, q.list)
	mux.HandleFunc("GET "+prefix+"/{id}", q.get)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ok, err := g.admits(r)
		switch {
		case err != nil:
			q.o.Log.Error("nobody can be let in to ask for images", "error", err.Error())
			refuse(w, http.StatusServiceUnavailable, "the publisher cannot read its tokens")
		case !ok:
			w.Header().Set("WWW-Authenticate", `Bearer realm="rootstock"`)
			refuse(w, http.StatusUnauthorized, "a token or certificate of the publisher's is needed")
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

func (q *Queue) post(w http.ResponseWriter, r *http.Request) {
	var req request
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&req); err != nil {
		refuse(w, http.StatusBadRequest, "want a JSON object with message_type wish and image: "+err.Error())
		return
	}
	if req.Type != "wish" {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("message_type %q: only wish is known", req.Type))
		return
	}
	e, err := q.Ask(r.Context(), req.Image, req.Anew)
	switch {
	case errors.Is(err, ErrName):
		refuse(w, http.StatusBadRequest, err.Error())
	case errors.Is(err, ErrDenied):
		refuse(w, http.StatusForbidden, err.Error())
	case errors.Is(err, ErrFailed):
		refuse(w, http.StatusUnprocessableEntity, err.Error())
	case errors.Is(err, ErrFull):
		w.Header().Set("Retry-After", "60")
		refuse(w, http.StatusTooManyRequests, err.Error())
	case err != nil:
		q.o.Log.Error("an image that was asked for could not be noted", "image", req.Image, "error", err.Error())
		refuse(w, http.StatusServiceUnavailable, "the publisher cannot note it now")
	case e.State == Published:
		answer(w, http.StatusOK, statusLine{"status", e})
	default:
		answer(w, http.StatusAccepted, statusLine{"status", e})
	}
}

func (q *Queue) get(w http.ResponseWriter, r *http.Request) {
	e, ok := q.Status(r.PathValue("id"))
	if !ok {
		refuse(w, http.StatusNotFound, "nothing is known under this id; it may have been forgotten")
		return
	}
	answer(w, http.StatusOK, statusLine{"status", e})
}

func (q *Queue) list(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc := json.NewEncoder(w)
	for _, e := range q.All() {
		if enc.Encode(statusLine{"status", e}) != nil {
			return // nobody listens any more
		}
	}
}

func refuse(w http.ResponseWriter, code int, text string) {
	answer(w, code, errorLine{"error", text})
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(v) //nolint:errcheck,errchkjson,gosec // nobody listens any more
}
