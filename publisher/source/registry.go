package source

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// registry is an image in a registry.
type registry struct {
	ref      name.Reference
	registry string // as people write it
	named    string // the image, normalised
	puller   *remote.Puller
	options  Options
	spools   map[string]*spool // by digest: layers may repeat
}

// openRegistry parses what follows docker: and speaks to nobody yet.
func openRegistry(rest string, o Options, s *Source) (container, error) {
	text, found := strings.CutPrefix(rest, "//")
	if !found {
		return nil, fmt.Errorf("%w: a registry's image is written docker://HOST/REPO:TAG", ErrUnsupported)
	}
	before, _, pinned := strings.Cut(text, "@")
	if pinned && strings.Contains(before[strings.LastIndexByte(before, '/')+1:], ":") {
		return nil, fmt.Errorf("%w: both tag and digest; name one of them", ErrUnsupported)
	}
	host, _, _ := strings.Cut(text, "/")
	var opts []name.Option
	if slices.Contains(o.PlainHTTP, host) {
		opts = append(opts, name.Insecure)
	}
	ref, err := name.ParseReference(text, opts...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	repo := ref.Context()
	s.Registry, s.Repository = registryName(repo), repo.RepositoryStr()
	named := s.Registry + "/" + s.Repository
	if t, ok := ref.(name.Tag); ok {
		s.Tag = t.TagStr()
		named += ":" + s.Tag
	} else {
		named += "@" + ref.Identifier()
	}
	auth := remote.WithAuthFromKeychain(authn.DefaultKeychain)
	if o.Username != "" {
		auth = remote.WithAuth(&authn.Basic{Username: o.Username, Password: o.Password})
	}
	puller, err := remote.NewPuller(auth, remote.WithTransport(newTransport(o)), remote.WithUserAgent("rootstock"),
		remote.WithRetryBackoff(remote.Backoff{Duration: o.RetryDelay, Factor: 2, Jitter: 0.1, Steps: o.Retries + 1}),
		remote.WithRetryStatusCodes(500, 502, 503, 504), remote.WithRetryPredicate(worthRetrying))
	if err != nil {
		return nil, err
	}
	return &registry{ref, s.Registry, named, puller, o, map[string]*spool{}}, nil
}

func (r *registry) root(ctx context.Context) ([]byte, types.MediaType, error) {
	d, err := r.puller.Get(ctx, r.ref)
	if err != nil {
		return nil, "", r.explain("image", r.named, err)
	}
	if pinned, ok := r.ref.(name.Digest); ok && digestOf(d.Manifest) != pinned.DigestStr() {
		return nil, "", fmt.Errorf("manifest %s: %w: its bytes hash to %s", pinned.DigestStr(), ErrDigest, digestOf(d.Manifest))
	}
	return d.Manifest, d.MediaType, nil
}

func (r *registry) manifest(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	got, err := r.puller.Get(ctx, r.ref.Context().Digest(d.Digest.String()))
	if err != nil {
		return nil, r.explain("manifest", d.Digest.String(), err)
	}
	return got.Manifest, nil
}

func (r *registry) config(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	if d.Size > maxConfig {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrTooLarge, d.Size, maxConfig)
	}
	in, err := (&download{registry: r, what: "config", d: d}).start(ctx)
	if err != nil {
		return nil, err
	}
	defer in.Close() //nolint:errcheck // only read from
	return readSmall(in, maxConfig)
}

func (r *registry) layer(d v1.Descriptor) (blob, error) {
	key := d.Digest.String()
	if r.spools[key] == nil {
		r.spools[key] = &spool{from: r, d: d, dir: r.options.TempDir}
	}
	return r.spools[key], nil
}

func (r *registry) close() error {
	var errs []error
	for _, s := range r.spools {
		errs = append(errs, s.remove())
	}
	return errors.Join(errs...)
}

// download is the body of one blob, resumed where the connection breaks. The
// bytes already delivered are read again and dropped, which any registry and
// any mirror behind it can serve; whoever reads verifies the whole.
type download struct {
	*registry
	what string // layer or config
	d    v1.Descriptor

	body   io.ReadCloser
	ctx    context.Context
	cancel context.CancelFunc
	watch  *time.Timer
	n      int64 // bytes delivered
	tries  int
}

// start makes the first request.
func (d *download) start(ctx context.Context) (io.ReadCloser, error) {
	d.ctx = ctx
	if err := d.request(); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *download) request() error {
	ctx, cancel := context.WithCancel(d.ctx)
	d.cancel = cancel
	// The transport bounds the wait for an answer; the watch is for its body.
	d.watch = time.AfterFunc(d.options.StallTimeout, cancel)
	d.watch.Stop()
	l, err := d.puller.Layer(ctx, d.ref.Context().Digest(d.d.Digest.String()))
	if err == nil {
		d.body, err = l.Compressed()
	}
	if err != nil {
		cancel()
		return d.explain(d.what, d.d.Digest.String(), err)
	}
	return nil
}

func (d *download) Read(p []byte) (int, error) {
	for {
		d.watch.Reset(d.options.StallTimeout) // around Read only: a slow reader is no stall
		n, err := d.body.Read(p)
		d.watch.Stop()
		d.n += int64(n)
		switch {
		case err == nil || d.n >= d.d.Size && errors.Is(err, io.EOF):
			return n, err
		case d.ctx.Err() != nil:
			return n, d.ctx.Err()
		case d.d.Size <= d.n: // all there and yet wrong: the client library checked the digest
			return n, fmt.Errorf("%w: %w", ErrDigest, err)
		case n > 0:
			return n, nil // whatever it is, the next Read meets it again
		case d.tries >= d.options.Retries:
			return 0, fmt.Errorf("%w: registry %s stopped after %d of %d bytes; try again later", ErrTruncated, d.registry.registry, d.n, d.d.Size)
		}
		if err := d.resume(); err != nil {
			return 0, err
		}
	}
}

// resume begins again and reads up to where the last try stopped.
func (d *download) resume() error {
	d.body.Close() //nolint:errcheck,gosec // broken already
	d.cancel()
	select {
	case <-time.After(d.options.RetryDelay << d.tries):
	case <-d.ctx.Done():
		return d.ctx.Err()
	}
	d.tries++
	if err := d.request(); err != nil {
		return err
	}
	buf := make([]byte, bufBytes)
	for left := d.n; left > 0; {
		d.watch.Reset(d.options.StallTimeout)
		n, err := d.body.Read(buf[:min(left, bufBytes)])
		d.watch.Stop()
		if left -= int64(n); err != nil {
			return nil // Read meets the same error and counts the try
		}
	}
	return nil
}

func (d *download) Close() error {
	d.watch.Stop()
	err := d.body.Close()
	d.cancel()
	if err != nil && d.n < d.d.Size {
		return nil // given up on the way
	}
	return err
}

func digestOf(b []byte) string {
	h := sha256.New()
	h.Write(b) //nolint:errcheck // a hash.Hash never fails
	return sum(h)
}
