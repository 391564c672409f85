package client_test

import (
	"context"
	"crypto/rsa"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
)

func publicKeys(t *testing.T, path string) []*rsa.PublicKey {
	t.Helper()
	keys, err := manifest.LoadPublicKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// clock is moved by hand.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Now()} }

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.t }

func (c *clock) add(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.t = c.t.Add(d) }

// clientOf returns options for a fresh client of repo.
func clientOf(t *testing.T, repo *testrepo.Repo) client.Options {
	t.Helper()
	// On a machine that is busy, a server on the same takes a while.
	return clientWithin(t, repo, time.Minute)
}

// clientWithin is clientOf for a server that keeps silent.
func clientWithin(t *testing.T, repo *testrepo.Repo, timeout time.Duration) client.Options {
	t.Helper()
	f, err := fetch.New(fetch.Config{Servers: []string{repo.URL}, Retries: -1, TimeoutDirect: timeout, LowSpeed: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return client.Options{Name: repo.Name, Fetcher: f, Trust: repo.Trust(), Cache: newCache(t, cache.Options{})}
}

func find(t *testing.T, r *client.Repository, path string) view.Node {
	t.Helper()
	n, _, err := r.Find(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func content(ctx context.Context, r *client.Repository, n view.Node) (string, error) {
	c, err := r.Open(ctx, n)
	if err != nil {
		return "", err
	}
	defer c.Close() //nolint:errcheck // read only
	b := make([]byte, c.Size()+1)
	m, err := c.ReadAt(ctx, b, 0)
	if !errors.Is(err, io.EOF) {
		return "", err
	}
	return string(b[:m]), nil
}

func readPath(t *testing.T, r *client.Repository, path string) string {
	t.Helper()
	s, err := content(t.Context(), r, find(t, r, path))
	if err != nil {
		t.Errorf("%s: %v", path, err)
	}
	return s
}

func names(t *testing.T, r *client.Repository, path string) (list []string) {
	t.Helper()
	err := r.ReadDir(t.Context(), find(t, r, path), 0, func(name string, _ view.Node, _ view.Attr) bool {
		list = append(list, name)
		return true
	})
	if err != nil {
		t.Errorf("list %s: %v", path, err)
	}
	return list
}

// mustEncode is how testrepo stores content.
func mustEncode(t *testing.T, plain []byte) []byte {
	t.Helper()
	b, err := codec.Encode(object.Zlib, nil, plain)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
