// Package garden asks Garden's API which app a container belongs to. Handles go
// out, properties come back; nothing is ever changed.
//
// Of the API (server/request_handling.go of Garden, routes/routes.go) only GET
// /containers/HANDLE/properties is used: guardian answers it from memory, while
// bulk_info looks at each container's processes. A handle that guardian does not
// know has no properties: it answers null, not 404.
package garden

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

var (
	// ErrAddress reports an address that is none of Garden's forms.
	ErrAddress = errors.New("no address of a Garden")
	// ErrUnavailable reports a Garden that does not answer.
	ErrUnavailable = errors.New("garden does not answer")
)

const (
	// maxProperties bounds an answer, in bytes. log_config and network
	// policies make up most of one.
	maxProperties = 1 << 20
	timeout       = 5 * time.Second
)

// Client asks one Garden.
type Client struct {
	address string
	http    *http.Client
}

// New returns a client of the Garden at a path, unix:PATH, or HOST:PORT with or
// without tcp:// before it. Nothing is asked yet. The error wraps [ErrAddress].
func New(address string) (*Client, error) {
	network, at := "tcp", strings.TrimPrefix(address, "tcp://")
	for _, prefix := range []string{"unix://", "unix:"} {
		if rest, ok := strings.CutPrefix(address, prefix); ok {
			network, at = "unix", rest
			break
		}
	}
	if filepath.IsAbs(at) {
		network = "unix"
	} else if _, _, err := net.SplitHostPort(at); err != nil || network == "unix" || strings.Contains(at, "/") {
		return nil, fmt.Errorf("%w: %q is neither an absolute path of a socket nor HOST:PORT", ErrAddress, address)
	}
	dialer := &net.Dialer{Timeout: timeout}
	return &Client{address: at, http: &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.DialContext(ctx, network, at) },
			MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Properties returns what Garden knows of a handle; nothing if it does not know
// the handle. Its errors wrap [ErrUnavailable].
func (c *Client) Properties(ctx context.Context, handle string) (map[string]string, error) {
	p, err := c.properties(ctx, handle)
	if err != nil {
		return nil, fmt.Errorf("%w at %s: %w", ErrUnavailable, c.address, err)
	}
	return p, nil
}

func (c *Client) properties(ctx context.Context, handle string) (map[string]string, error) {
	at := "http://garden/containers/" + url.PathEscape(handle) + "/properties"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var u *url.Error // whose URL is none that an operator knows
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // read before
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, nil
	default:
		return nil, fmt.Errorf("HTTP %s", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxProperties+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxProperties {
		return nil, fmt.Errorf("properties of over %d bytes", maxProperties)
	}
	var p map[string]string
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, fmt.Errorf("properties: %w", err)
	}
	return p, nil
}
