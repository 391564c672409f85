// Package registry asks container registries, on behalf of an image's would-be
// user, whether the credentials they came with may pull it: one HEAD request
// for the manifest, after the registry's own way to authenticate (the OCI
// distribution specification and Docker's token protocol). Nothing is pulled.
//
// A registry's answers are not trusted with more than a yes or no.
package registry

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/reference"
)

const (
	// Remembered is how long a yes holds. A no is asked again.
	Remembered = 5 * time.Minute
	// most bounds how many answers are remembered.
	most = 4096
	// patience bounds all the requests of one question.
	patience = 20 * time.Second
)

// accept lists the manifests an image may have.
var accept = []string{
	"application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json",
	"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.distribution.manifest.list.v2+json",
}

// Asker asks registries and remembers their answers, per image and credentials,
// in memory only and without the credentials themselves. It may be used
// concurrently.
type Asker struct {
	now func() time.Time
	key [32]byte // of the names of answers

	mu  sync.Mutex
	yes map[[sha256.Size]byte]time.Time // until when
}

var _ control.Asker = (*Asker)(nil)

// New returns an Asker that remembers nothing yet.
func New() *Asker {
	a := &Asker{now: time.Now, yes: map[[sha256.Size]byte]time.Time{}}
	rand.Read(a.key[:]) //nolint:errcheck // never fails, says its documentation
	return a
}

// MayPull implements [control.Asker].
func (a *Asker) MayPull(ctx context.Context, r control.PullRequest) error {
	ref := reference.Reference{Kind: reference.Images, Name: r.Image, Version: r.Digest}
	if err := ref.Validate(); err != nil {
		return fmt.Errorf("%w: %w", control.ErrInvalid, err)
	}
	if _, ok := ref.Digest(); !ok {
		return fmt.Errorf("%w: %s has no digest", control.ErrInvalid, ref)
	}
	name := a.name(r)
	if a.remembers(name) {
		return nil
	}
	client, err := clientFor(r)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	q := question{client: client, r: r}
	q.host, q.repository, _ = strings.Cut(r.Image, "/")
	if q.host == "docker.io" {
		q.host = "registry-1.docker.io"
	}
	if err := q.ask(ctx); err != nil {
		return err
	}
	a.remember(name)
	return nil
}

// name stands for everything an answer depends on.
func (a *Asker) name(r control.PullRequest) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, a.key[:])
	for _, s := range []string{r.Image, r.Digest, r.Username, r.Password, r.CA, fmt.Sprint(r.PlainHTTP)} {
		fmt.Fprintf(h, "%d:%s", len(s), s) //nolint:errcheck // a hash takes everything
	}
	h.Sum(sum[:0])
	return sum
}

func (a *Asker) remembers(name [sha256.Size]byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.now().Before(a.yes[name])
}

func (a *Asker) remember(name [sha256.Size]byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if len(a.yes) >= most {
		for k, until := range a.yes {
			if !now.Before(until) {
				delete(a.yes, k)
			}
		}
	}
	if len(a.yes) >= most {
		clear(a.yes) // a flood; whoever asks again is asked about again
	}
	a.yes[name] = now.Add(Remembered)
}

// clientFor follows no redirects: a manifest's HEAD has none, and one could
// make the cell speak to whatever a registry names.
func clientFor(r control.PullRequest) (*http.Client, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: patience / 2}).DialContext,
		TLSHandshakeTimeout:   patience / 2,
		ResponseHeaderTimeout: patience / 2,
		ForceAttemptHTTP2:     true,
	}
	if r.CA != "" {
		t.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM([]byte(r.CA)) {
			return nil, fmt.Errorf("%w: among the certificates to trust there is none", control.ErrInvalid)
		}
	}
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}
