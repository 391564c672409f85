package source

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// userAgent is how registries see us.
const userAgent = "rootstock"

// retryCodes are the answers after which asking again may help.
var retryCodes = []int{
	http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
	http.StatusServiceUnavailable, http.StatusGatewayTimeout,
}

// Mirror is a registry that has what another one has, under the same names or
// below a prefix.
type Mirror struct {
	Of   string // registry that is mirrored, as people write it
	Host string // host[:port]
	// Prefix goes before the repository's name; "" for none.
	Prefix string
}

// ParseMirror reads [REGISTRY=]HOST[:PORT][/PREFIX]; without REGISTRY it is
// docker.io.
func ParseMirror(text string) (Mirror, error) {
	m := Mirror{Of: "docker.io"}
	rest := text
	if of, where, ok := strings.Cut(text, "="); ok {
		m.Of, rest = of, where
	}
	m.Host, m.Prefix, _ = strings.Cut(strings.TrimSuffix(rest, "/"), "/")
	if _, err := name.NewRegistry(m.Host, name.StrictValidation); err != nil || m.Host == "" || m.Of == "" || strings.Contains(rest, "://") {
		return m, fmt.Errorf("%w mirror %q: it is written [REGISTRY=]HOST[:PORT][/PREFIX]", ErrFormat, text)
	}
	return m, nil
}

// of is where the mirror has a repository; nil if it mirrors another registry.
// Credentials given for the image are the registry's own: a mirror gets those
// of the keychain.
func (m Mirror) of(repo name.Repository, registry string, o Options) (*place, error) {
	if m.Of != registry {
		return nil, nil
	}
	path := repo.RepositoryStr()
	if m.Prefix != "" {
		path = m.Prefix + "/" + path
	}
	var opts []name.Option
	if slices.Contains(o.PlainHTTP, m.Host) {
		opts = append(opts, name.Insecure)
	}
	at, err := name.NewRepository(m.Host+"/"+path, opts...)
	if err != nil {
		return nil, fmt.Errorf("%w mirror %s: %w", ErrFormat, m.Host, err)
	}
	return newPlace(at, m.Host, nil, o), nil
}

// place is a repository in one registry, and the way to speak to it.
type place struct {
	repo     name.Repository
	registry string // as people write it
	auth     authn.Authenticator
	options  Options

	mu     sync.Mutex // guards what the login sets
	puller *remote.Puller
	client *http.Client
}

// newPlace speaks to nobody yet. Without auth the keychain is asked.
func newPlace(repo name.Repository, registry string, auth authn.Authenticator, o Options) *place {
	return &place{repo: repo, registry: registry, auth: auth, options: o}
}

// login finds out how the registry wants to be spoken to, once.
func (p *place) login(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client != nil {
		return nil
	}
	auth := p.auth
	if auth == nil {
		var err error
		if auth, err = authn.Resolve(ctx, authn.DefaultKeychain, p.repo); err != nil {
			return err
		}
	}
	t, err := transport.NewWithContext(ctx, p.repo.Registry, auth, p.retrying(), []string{p.repo.Scope(transport.PullScope)})
	if err != nil {
		return err
	}
	if p.puller, err = remote.NewPuller(remote.WithTransport(t)); err != nil {
		return err
	}
	p.client = &http.Client{Transport: t}
	return nil
}

// retrying is the transport below what logs in.
func (p *place) retrying() http.RoundTripper {
	return transport.NewUserAgent(transport.NewRetry(newTransport(p.options),
		transport.WithRetryBackoff(remote.Backoff{Duration: p.options.RetryDelay, Factor: 2, Jitter: 0.1, Steps: p.options.Retries + 1}),
		transport.WithRetryStatusCodes(retryCodes...), transport.WithRetryPredicate(worthRetrying)), userAgent)
}

// get asks for a manifest.
func (p *place) get(ctx context.Context, ref name.Reference) (*remote.Descriptor, error) {
	if err := p.login(ctx); err != nil {
		return nil, err
	}
	return p.puller.Get(ctx, ref)
}

// blob asks for a blob of size bytes, from byte from on. The body may begin earlier, at the
// byte returned, where a registry or what it redirects to knows no ranges. The
// caller closes the body and verifies what it brings.
func (p *place) blob(ctx context.Context, digest string, from, size int64) (*http.Response, int64, error) {
	if err := p.login(ctx); err != nil {
		return nil, 0, err
	}
	u := url.URL{Scheme: p.repo.Scheme(), Host: p.repo.RegistryStr(), Path: "/v2/" + p.repo.RepositoryStr() + "/blobs/" + digest}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, 0, err
	}
	if from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, size-1))
	}
	resp, err := p.client.Do(req) //nolint:bodyclose // the caller's
	if err != nil {
		return nil, 0, err
	}
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && from > 0 {
		resp.Body.Close() //nolint:errcheck,gosec // nothing of it was wanted
		return p.blob(ctx, digest, 0, size)
	}
	if err := transport.CheckError(resp, http.StatusOK, http.StatusPartialContent); err != nil {
		resp.Body.Close() //nolint:errcheck,gosec // it says no more
		return nil, 0, err
	}
	if resp.StatusCode == http.StatusPartialContent {
		if !strings.HasPrefix(resp.Header.Get("Content-Range"), "bytes "+strconv.FormatInt(from, 10)+"-") {
			resp.Body.Close() //nolint:errcheck,gosec // not what was asked for
			return nil, 0, fmt.Errorf("%w answer: asked for bytes from %d, got range %q", ErrFormat, from, resp.Header.Get("Content-Range"))
		}
		return resp, from, nil
	}
	return resp, 0, nil
}
