package source

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// registry is an image in a registry, or in a mirror of it.
type registry struct {
	ref     name.Reference
	named   string // the image, normalised
	places  []*place
	options Options
	spools  map[string]*spool // by digest: layers may repeat
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
	r := &registry{ref: ref, named: named, options: o, spools: map[string]*spool{}}
	for _, m := range o.Mirrors {
		p, err := m.of(repo, s.Registry, o)
		if err != nil {
			return nil, err
		}
		if p != nil {
			r.places = append(r.places, p)
		}
	}
	r.places = append(r.places, newPlace(repo, s.Registry, o.basic(), o))
	return r, nil
}

// try asks the places in turn until one answers, mirrors first. Whoever asked
// proves what came, so that a mirror can only fail.
func (r *registry) try(ctx context.Context, ask func(*place) error) error {
	var errs []error
	for _, p := range r.places {
		err := ask(p)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

func (r *registry) root(ctx context.Context) (raw []byte, t types.MediaType, err error) {
	err = r.try(ctx, func(p *place) error {
		ref := name.Reference(p.repo.Tag(r.ref.Identifier()))
		pinned, isDigest := r.ref.(name.Digest)
		if isDigest {
			ref = p.repo.Digest(pinned.DigestStr())
		}
		d, err := p.get(ctx, ref)
		if err != nil {
			return p.explain("image", r.named, err)
		}
		if isDigest && digestOf(d.Manifest) != pinned.DigestStr() {
			return fmt.Errorf("manifest %s: %w: its bytes hash to %s", pinned.DigestStr(), ErrDigest, digestOf(d.Manifest))
		}
		raw, t = d.Manifest, d.MediaType
		return nil
	})
	return raw, t, err
}

func (r *registry) manifest(ctx context.Context, d v1.Descriptor) (raw []byte, err error) {
	err = r.try(ctx, func(p *place) error {
		got, err := p.get(ctx, p.repo.Digest(d.Digest.String()))
		if err != nil {
			return p.explain("manifest", d.Digest.String(), err)
		}
		raw = got.Manifest
		return nil
	})
	return raw, err
}

// config is read once and then remembered: with it an image that was published
// is told by its manifest alone.
func (r *registry) config(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	if d.Size > maxConfig {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrTooLarge, d.Size, maxConfig)
	}
	if b := r.options.Seen.Blob(d.Digest.String()); b != nil && verify("config", b, d) == nil {
		return b, nil
	}
	in, err := (&download{registry: r, what: "config", d: d}).start(ctx)
	if err != nil {
		return nil, err
	}
	defer in.Close() //nolint:errcheck // only read from
	b, err := readSmall(in, maxConfig)
	if err == nil && verify("config", b, d) == nil {
		r.options.Seen.KeepBlob(d.Digest.String(), b)
	}
	return b, err
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

func digestOf(b []byte) string {
	h := sha256.New()
	h.Write(b) //nolint:errcheck // a hash.Hash never fails
	return sum(h)
}
