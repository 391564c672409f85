package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/rootstock-cf/rootstock/cell/control"
)

// maxToken bounds the answer of a token server in bytes.
const maxToken = 256 << 10

// question is one image, asked about once.
type question struct {
	client     *http.Client
	r          control.PullRequest
	host       string
	repository string
}

func (q question) scheme() string {
	if q.r.PlainHTTP {
		return "http"
	}
	return "https"
}

// ask sends the request as it is, as Docker does, and again with what the
// registry wants to see.
func (q question) ask(ctx context.Context) error {
	status, challenge, err := q.head(ctx, "")
	if err != nil {
		return err
	}
	if status == http.StatusUnauthorized {
		auth, err := q.answer(ctx, challenge)
		if err != nil {
			return err
		}
		if status, _, err = q.head(ctx, auth); err != nil {
			return err
		}
	}
	return q.verdict(status)
}

func (q question) verdict(status int) error {
	switch {
	case status == http.StatusOK:
		return nil
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusNotFound:
		// As Docker words it, which says no more than it has to.
		return fmt.Errorf("%w: pull access denied for %s: it does not exist there as %s, or needs other credentials (HTTP %d)",
			control.ErrDenied, q.r.Image, q.r.Digest, status)
	}
	return fmt.Errorf("%w: the registry %s answered HTTP %d when asked whether %s may be pulled; try again",
		control.ErrUnavailable, q.host, status, q.r.Image)
}

func (q question) head(ctx context.Context, auth string) (status int, challenges []string, err error) {
	u := url.URL{Scheme: q.scheme(), Host: q.host, Path: "/v2/" + q.repository + "/manifests/" + q.r.Digest}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, u.String(), nil)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", control.ErrInvalid, err)
	}
	req.Header["Accept"] = accept
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	resp, err := q.do(req)
	if err != nil {
		return 0, nil, err
	}
	resp.Body.Close() //nolint:errcheck // a HEAD has none
	return resp.StatusCode, resp.Header.Values("Www-Authenticate"), nil
}

func (q question) do(req *http.Request) (*http.Response, error) {
	req.Header.Set("User-Agent", "rootstock-cell")
	resp, err := q.client.Do(req)
	if err != nil {
		var u *url.Error // its text holds the URL with its query
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, fmt.Errorf("%w: the registry %s cannot be asked whether %s may be pulled: %w", control.ErrUnavailable, q.host, q.r.Image, err)
	}
	return resp, nil
}

// answer makes the Authorization header that the first challenge we know wants.
func (q question) answer(ctx context.Context, challenges []string) (string, error) {
	for _, c := range challenges {
		scheme, params, _ := strings.Cut(c, " ")
		switch strings.ToLower(scheme) {
		case "basic":
			if q.r.Username == "" {
				return "", q.verdict(http.StatusUnauthorized)
			}
			req := http.Request{Header: http.Header{}}
			req.SetBasicAuth(q.r.Username, q.r.Password)
			return req.Header.Get("Authorization"), nil
		case "bearer":
			return q.token(ctx, parameters(params))
		}
	}
	return "", q.verdict(http.StatusUnauthorized)
}

// token asks the registry's token server, which is told the credentials, as
// Docker tells them.
func (q question) token(ctx context.Context, params map[string]string) (string, error) {
	realm, err := url.Parse(params["realm"])
	if err != nil || realm.Host == "" || realm.Scheme != "https" && (realm.Scheme != "http" || !q.r.PlainHTTP) {
		return "", fmt.Errorf("%w: the registry %s sends to %.200q for a token, which is no https URL", control.ErrUnavailable, q.host, params["realm"])
	}
	query := realm.Query()
	if s := params["service"]; s != "" {
		query.Set("service", s)
	}
	query.Set("scope", "repository:"+q.repository+":pull")
	realm.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), nil)
	if err != nil {
		return "", fmt.Errorf("%w: %w", control.ErrInvalid, err)
	}
	if q.r.Username != "" {
		req.SetBasicAuth(q.r.Username, q.r.Password)
	}
	resp, err := q.do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() //nolint:errcheck // read before
	if resp.StatusCode != http.StatusOK {
		return "", q.verdict(resp.StatusCode)
	}
	var doc struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxToken)).Decode(&doc); err != nil {
		return "", fmt.Errorf("%w: the token server of %s: %w", control.ErrUnavailable, q.host, err)
	}
	if doc.Token == "" {
		doc.Token = doc.AccessToken
	}
	if doc.Token == "" || strings.ContainsAny(doc.Token, "\r\n") {
		return "", fmt.Errorf("%w: the token server of %s gave no token", control.ErrUnavailable, q.host)
	}
	return "Bearer " + doc.Token, nil
}

// parameters reads key="value" pairs, separated by commas; RFC 7235 allows
// more, registries send this.
func parameters(s string) map[string]string {
	all := map[string]string{}
	for s != "" {
		key, rest, ok := strings.Cut(s, "=")
		if !ok {
			break
		}
		key = strings.ToLower(strings.Trim(key, " ,"))
		var value string
		if strings.HasPrefix(rest, `"`) {
			value, s, _ = strings.Cut(rest[1:], `"`)
		} else {
			value, s, _ = strings.Cut(rest, ",")
		}
		all[key] = value
	}
	return all
}
