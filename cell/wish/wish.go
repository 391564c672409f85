// Package wish tells a publisher which images the cell's containers asked for
// in vain, so that they are published for the next time
// (docs/design/wishes.md). A wish is one HTTP POST, sent beside everything
// else: no container waits for it, and none fails because of it.
package wish

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/rootstock-cf/rootstock/cell/control"
)

const (
	// Pause is the time until an image is wished for again that the publisher
	// has heard of.
	Pause = time.Hour
	// Retry is the time until one is that it has not heard of.
	Retry = time.Minute

	patience = 20 * time.Second // for one wish
	most     = 1024             // images remembered
	atOnce   = 4                // wishes under way
	maxImage = 1024             // bytes of a name
	maxToken = 4096             // bytes
)

// Sender sends wishes. It may be used concurrently.
type Sender struct {
	Log *slog.Logger
	Now func() time.Time // nil is the machine's clock
	// Certificates are shown to publishers that ask for one.
	Certificates []tls.Certificate

	mu    sync.Mutex
	until map[key]time.Time // not again before that
	busy  int
	all   sync.WaitGroup
}

type key struct{ url, image string }

var _ control.Wisher = (*Sender)(nil)

// Wait waits for wishes under way, each of which ends by itself in seconds.
func (s *Sender) Wait() { s.all.Wait() }

// Wish implements [control.Wisher]. A wish too many is dropped: the next
// container that needs the image has it again.
func (s *Sender) Wish(_ context.Context, r control.WishRequest) error {
	u, err := url.Parse(r.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%w: %q is not the URL of a publisher", control.ErrInvalid, r.URL)
	}
	if strings.ContainsFunc(r.Token, unicode.IsControl) || len(r.Token) > maxToken {
		return fmt.Errorf("%w: the token is none", control.ErrInvalid)
	}
	if r.Image == "" || len(r.Image) > maxImage {
		return fmt.Errorf("%w: the name of an image has 1 to %d bytes", control.ErrInvalid, maxImage)
	}
	k := key{r.URL, r.Image}
	if !s.begin(k) {
		return nil
	}
	s.all.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err := s.send(ctx, r)
		s.end(k, err == nil)
		if err != nil {
			s.Log.Warn("the publisher was not told of an image", "image", r.Image, "error", err.Error())
			return
		}
		s.Log.Info("the publisher was told of an image", "image", r.Image)
	})
	return nil
}

func (s *Sender) now() time.Time {
	if s.Now == nil {
		return time.Now()
	}
	return s.Now()
}

// begin reports whether k is to be sent now.
func (s *Sender) begin(k key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if now.Before(s.until[k]) || s.busy >= atOnce {
		return false
	}
	if len(s.until) >= most {
		for k, until := range s.until {
			if !now.Before(until) {
				delete(s.until, k)
			}
		}
		if len(s.until) >= most {
			return false
		}
	}
	if s.until == nil {
		s.until = map[key]time.Time{}
	}
	s.until[k] = now.Add(Pause) // it is not sent twice at a time
	s.busy++
	return true
}

func (s *Sender) end(k key, heard bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy--
	if !heard {
		s.until[k] = s.now().Add(Retry)
	}
}

// send returns nil if the publisher has heard of the image, whatever it thinks
// of it.
func (s *Sender) send(ctx context.Context, r control.WishRequest) error {
	body, err := json.Marshal(struct {
		Type  string `json:"message_type"`
		Image string `json:"image"`
	}{"wish", r.Image})
	if err != nil {
		return err
	}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{Certificates: s.Certificates, MinVersion: tls.VersionTLS12},
	}
	defer t.CloseIdleConnections()
	if r.CA != "" {
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM([]byte(r.CA)) {
			return errors.New("among the certificates to trust there is none")
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "rootstock-cell")
	if r.Token != "" {
		req.Header.Set("Authorization", "Bearer "+r.Token)
	}
	// What is posted goes where the configuration says and nowhere else.
	c := http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()                               //nolint:errcheck // only read
	io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10)) //nolint:errcheck // nobody reads it
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500 || resp.StatusCode/100 == 3 {
		return fmt.Errorf("HTTP %d", resp.StatusCode)
	}
	return nil // also where it refuses: asking again soon would change nothing
}
