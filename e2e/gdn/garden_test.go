package gdn_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// garden speaks Garden's HTTP API over a unix socket, as far as rep does.
type garden struct {
	socket string
	http   http.Client
}

func newGarden(socket string) *garden {
	g := &garden{socket: socket}
	g.http.Transport = &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return g.dial(ctx) },
	}
	return g
}

func (g *garden) dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", g.socket)
}

// call sends in, if it is not nil, and reads the answer into out, if that is
// not nil. What Garden says when it fails is the error.
func (g *garden) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	answer, err := g.raw(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer answer.Close() //nolint:errcheck // only read
	if out == nil {
		_, err = io.Copy(io.Discard, answer)
		return err
	}
	return json.NewDecoder(answer).Decode(out)
}

// raw is call for bodies that are not JSON; the caller closes the answer.
func (g *garden) raw(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://garden"+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := g.http.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode >= 400 {
		text, err := io.ReadAll(res.Body)
		res.Body.Close() //nolint:errcheck // only read
		return nil, fmt.Errorf("%s %s: %s, %s, %w", method, path, res.Status, text, err)
	}
	return res.Body, nil
}

// container is what a create asks for.
type container struct {
	Handle     string            `json:"handle"`
	Privileged bool              `json:"privileged,omitempty"`
	Image      image             `json:"image"`
	Limits     limits            `json:"limits"`
	Properties map[string]string `json:"properties,omitempty"`
}

type image struct {
	URI string `json:"uri,omitempty"`
}

type limits struct {
	Disk disk `json:"disk_limits"`
}

// disk is a limit in bytes. Scope 0 counts the image, 1 does not.
type disk struct {
	Bytes int64 `json:"byte_hard,omitempty"`
	Scope int   `json:"scope,omitempty"`
}

// metrics are those the plugin answers for.
type metrics struct {
	DiskStat struct{ TotalBytesUsed, ExclusiveBytesUsed int64 }
}

func (g *garden) create(ctx context.Context, c container) error {
	return g.call(ctx, "POST", "/containers", c, nil)
}

func (g *garden) destroy(ctx context.Context, handle string) error {
	return g.call(ctx, "DELETE", "/containers/"+handle, nil, nil)
}

func (g *garden) metrics(t *testing.T, handle string) metrics {
	t.Helper()
	var m metrics
	must(t, g.call(t.Context(), "GET", "/containers/"+handle+"/metrics", nil, &m))
	return m
}

func (g *garden) streamIn(ctx context.Context, handle, user, dir string, tar io.Reader) error {
	q := url.Values{"user": {user}, "destination": {dir}}
	answer, err := g.raw(ctx, "PUT", "/containers/"+handle+"/files?"+q.Encode(), tar)
	if err != nil {
		return err
	}
	return answer.Close()
}

func (g *garden) streamOut(ctx context.Context, handle, user, path string) ([]byte, error) {
	q := url.Values{"user": {user}, "source": {path}}
	answer, err := g.raw(ctx, "GET", "/containers/"+handle+"/files?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	defer answer.Close() //nolint:errcheck // only read
	return io.ReadAll(answer)
}

// message is what goes both ways over the connection of a process.
type message struct {
	Process string  `json:"process_id,omitempty"`
	Stream  string  `json:"stream_id,omitempty"`
	Status  *int    `json:"exit_status,omitempty"`
	Error   *string `json:"error,omitempty"`
}

// hijack sends a request after which the connection belongs to the process.
func (g *garden) hijack(ctx context.Context, method, path string, body io.Reader) (net.Conn, *bufio.Reader, error) {
	conn, err := g.dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://garden"+path, body)
	if err == nil {
		req.Header.Set("Content-Type", "application/json")
		err = req.Write(conn)
	}
	r := bufio.NewReader(conn)
	if err == nil {
		var res *http.Response
		if res, err = http.ReadResponse(r, req); err == nil && res.StatusCode >= 400 {
			text, _ := io.ReadAll(res.Body)
			err = fmt.Errorf("%s %s: %s, %s", method, path, res.Status, text)
		}
	}
	if err != nil {
		conn.Close() //nolint:errcheck // the first error counts
		return nil, nil, err
	}
	return conn, r, nil
}

// run runs a shell command in a container and returns what it printed and its
// exit status.
func (g *garden) run(ctx context.Context, handle, user, command string) (string, int, error) {
	spec, err := json.Marshal(map[string]any{"path": "/bin/sh", "args": []string{"-c", "exec 2>&1; " + command}, "user": user})
	if err != nil {
		return "", 0, err
	}
	base := "/containers/" + handle + "/processes"
	conn, r, err := g.hijack(ctx, "POST", base, bytes.NewReader(spec))
	if err != nil {
		return "", 0, err
	}
	defer conn.Close() //nolint:errcheck // the process has ended
	messages := json.NewDecoder(r)
	var m message
	if err := messages.Decode(&m); err != nil {
		return "", 0, fmt.Errorf("process: %w", err)
	}
	out, text, err := g.hijack(ctx, "GET", base+"/"+m.Process+"/attaches/"+m.Stream+"/stdout", nil)
	if err != nil {
		return "", 0, err
	}
	defer out.Close() //nolint:errcheck // only read
	said, err := io.ReadAll(text)
	if err != nil {
		return "", 0, fmt.Errorf("output: %w", err)
	}
	for {
		m = message{}
		switch err := messages.Decode(&m); {
		case err != nil:
			return "", 0, fmt.Errorf("process: %w", err)
		case m.Error != nil:
			return "", 0, fmt.Errorf("process: %s", *m.Error)
		case m.Status != nil:
			return strings.TrimSpace(string(said)), *m.Status, nil
		}
	}
}

// says runs a shell command, which must end well, and returns what it printed.
func (g *garden) says(t *testing.T, handle, user, command string) string {
	t.Helper()
	said, status, err := g.run(t.Context(), handle, user, command)
	if err != nil || status != 0 {
		t.Fatalf("%s as %s: exit %d, %v: %s", command, user, status, err, said)
	}
	return said
}
