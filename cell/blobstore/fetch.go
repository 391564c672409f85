// Package blobstore fetches the layers that Diego describes by URL: blobstores
// hand them out over TLS to whoever shows the cell's certificate. What arrives
// is passed on as it comes; checking its digest is the receiver's part.
package blobstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// ErrFetch reports a layer that no URL gave.
var ErrFetch = errors.New("fetch layer")

const (
	dialTimeout   = 15 * time.Second
	headerTimeout = 60 * time.Second
	// stallTimeout ends a download that has brought no byte for so long.
	stallTimeout = 60 * time.Second
	maxRedirects = 5
)

// Options say how to fetch.
type Options struct {
	Certificate, Key string // PEM files shown to the server; both or none
	CA               string // PEM file to trust instead of the system's certificates
	Size             int64  // bytes that have to come; 0 for any number
}

// Fetch writes what the first URL that answers has to w. Once bytes have gone to
// w, no other URL is tried: they might be others. Errors name hosts, not URLs,
// which may be signed.
func Fetch(ctx context.Context, urls []string, o Options, w io.Writer) error {
	client, err := o.client()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFetch, err)
	}
	defer client.CloseIdleConnections()
	var failed []error
	for _, u := range urls {
		begun, err := fetch(ctx, client, u, o.Size, w)
		if err == nil {
			return nil
		}
		failed = append(failed, fmt.Errorf("%w from %s: %w", ErrFetch, host(u), err))
		if begun || ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}

func host(raw string) string {
	if u, err := url.Parse(raw); err == nil {
		return u.Host
	}
	return "a malformed URL"
}

func (o Options) client() (*http.Client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.Certificate != "" || o.Key != "" {
		pair, err := tls.LoadX509KeyPair(o.Certificate, o.Key)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	if o.CA != "" {
		text, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("certificates to trust: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s holds no PEM certificate", o.CA)
		}
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSClientConfig: conf, TLSHandshakeTimeout: dialTimeout, ResponseHeaderTimeout: headerTimeout,
			DisableCompression: true, // the digest is of the bytes as they lie there
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return fmt.Errorf("more than %d redirects", maxRedirects)
			}
			if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
				return errors.New("redirected away from https")
			}
			return nil
		},
	}, nil
}

func fetch(ctx context.Context, client *http.Client, raw string, size int64, w io.Writer) (begun bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, raw, nil)
	if err != nil {
		return false, errors.New("malformed URL")
	}
	req.Header.Set("User-Agent", "rootstock-cell")
	resp, err := client.Do(req)
	if err != nil {
		var u *url.Error // its text holds the URL
		if errors.As(err, &u) {
			err = u.Err
		}
		return false, err
	}
	defer resp.Body.Close() //nolint:errcheck // read before
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("HTTP %s", resp.Status)
	}
	if size > 0 && resp.ContentLength >= 0 && resp.ContentLength != size {
		return false, fmt.Errorf("%d bytes are offered, %d were promised", resp.ContentLength, size)
	}
	watch := time.AfterFunc(stallTimeout, func() { cancel(fmt.Errorf("no byte in %s", stallTimeout)) })
	defer watch.Stop()
	body := io.Reader(&alive{resp.Body, watch})
	if size > 0 {
		body = io.LimitReader(body, size+1)
	}
	n, err := io.Copy(w, body)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return n > 0, fmt.Errorf("after %d bytes: %w", n, err)
	}
	if size > 0 && n != size {
		return n > 0, fmt.Errorf("%d bytes came, %d were promised", n, size)
	}
	return true, nil
}

// alive winds a watch up with every read that brings something.
type alive struct {
	r     io.Reader
	watch *time.Timer
}

func (a *alive) Read(b []byte) (int, error) {
	n, err := a.r.Read(b)
	if n > 0 {
		a.watch.Reset(stallTimeout)
	}
	return n, err
}
