package source

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// maxNames bounds the tags of a repository, or the repositories of a registry,
// that are listed.
const maxNames = 100_000

// Tags lists the tags of HOST/REPO in its registry, sorted. More than 100,000
// are [ErrTooLarge].
func Tags(ctx context.Context, repository string, o Options) ([]string, error) {
	o = o.withDefaults()
	repo, err := name.NewRepository(repository, o.insecure(repository)...)
	if err != nil {
		return nil, fmt.Errorf("tags of %s: %w: %w", repository, ErrFormat, err)
	}
	p := newPlace(repo, registryName(repo), o.basic(), o)
	puller, err := p.lister(ctx, repo)
	if err != nil {
		return nil, fmt.Errorf("tags of %s: %w", repository, err)
	}
	pages, err := puller.Lister(ctx, repo)
	var all []string
	for err == nil && pages.HasNext() {
		var page *remote.Tags
		if page, err = pages.Next(ctx); err == nil {
			all, err = more(all, page.Tags)
		}
	}
	if err != nil {
		return nil, p.explain("tags of", repository, err)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// Repositories lists the repositories of a registry, sorted. Many registries do
// not tell, or not everybody: Docker's does not.
func Repositories(ctx context.Context, registry string, o Options) ([]string, error) {
	o = o.withDefaults()
	reg, err := name.NewRegistry(registry, o.insecure(registry)...)
	if err != nil {
		return nil, fmt.Errorf("repositories of %s: %w: %w", registry, ErrFormat, err)
	}
	// The place asks for no more than its registry.
	p := newPlace(name.Repository{Registry: reg}, registry, o.basic(), o)
	puller, err := p.lister(ctx, reg)
	if err != nil {
		return nil, fmt.Errorf("repositories of %s: %w", registry, err)
	}
	pages, err := puller.Catalogger(ctx, reg)
	var all []string
	for err == nil && pages.HasNext() {
		var page *remote.Catalogs
		if page, err = pages.Next(ctx); err == nil {
			all, err = more(all, page.Repos)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("a pattern for repositories needs a registry that lists them: %w", p.explain("list of", "repositories", err))
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

func more(all, page []string) ([]string, error) {
	if len(all)+len(page) > maxNames {
		return nil, fmt.Errorf("%w: more than %d names", ErrTooLarge, maxNames)
	}
	return append(all, page...), nil
}

func (o Options) insecure(text string) []name.Option {
	host, _, _ := strings.Cut(text, "/")
	if slices.Contains(o.PlainHTTP, host) {
		return []name.Option{name.Insecure}
	}
	return nil
}

func (o Options) basic() authn.Authenticator {
	if o.Username == "" {
		return nil
	}
	return &authn.Basic{Username: o.Username, Password: o.Password}
}

// lister is a puller that asks for the permission to list by itself.
func (p *place) lister(ctx context.Context, at authn.Resource) (*remote.Puller, error) {
	auth := p.auth
	if auth == nil {
		var err error
		if auth, err = authn.Resolve(ctx, authn.DefaultKeychain, at); err != nil {
			return nil, err
		}
	}
	return remote.NewPuller(remote.WithTransport(p.retrying()), remote.WithAuth(auth), remote.WithUserAgent(userAgent))
}
