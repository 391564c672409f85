package rootfsprovider

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rootstock-cf/rootstock/reference"
)

// ErrUnsupported reports a rootfs URI that no resolver is there for.
var ErrUnsupported = errors.New("unsupported rootfs")

// Resolver turns a rootfs URI, as Garden passes it, into the reference of a
// published tree.
type Resolver interface {
	Resolve(ctx context.Context, uri string) (reference.Reference, error)
}

// Schemes resolves by a URI's scheme. The empty scheme is that of a bare path.
type Schemes map[string]Resolver

// Resolve implements [Resolver].
func (s Schemes) Resolve(ctx context.Context, uri string) (reference.Reference, error) {
	scheme, _, ok := strings.Cut(uri, "://")
	if !ok {
		scheme = ""
	}
	r, ok := s[scheme]
	if ok {
		return r.Resolve(ctx, uri)
	}
	shown := show(uri)
	switch scheme {
	case "docker":
		return reference.Reference{}, fmt.Errorf("%w %s: publish the image with rootstock publish image and name it "+
			"cvmfs://REPOSITORY/images/REGISTRY/NAME@TAG", ErrUnsupported, shown)
	case "":
		return reference.Reference{}, fmt.Errorf("%w %s: want a URI such as cvmfs://REPOSITORY/rootfs/NAME", ErrUnsupported, shown)
	}
	return reference.Reference{}, fmt.Errorf("%w %s: this plugin serves cvmfs://REPOSITORY/KIND/NAME", ErrUnsupported, shown)
}

// show makes a URI fit for a message that users see: one line, bounded, and
// without a user name or password in front of the host.
func show(uri string) string {
	const most = 200
	if scheme, rest, ok := strings.Cut(uri, "://"); ok {
		host, path, _ := strings.Cut(rest, "/")
		if i := strings.LastIndexByte(host, '@'); i >= 0 {
			uri = scheme + "://" + host[i+1:] + "/" + path
		}
	}
	if len(uri) > most {
		return fmt.Sprintf("%q…", uri[:most])
	}
	return fmt.Sprintf("%q", uri)
}

// CVMFS resolves cvmfs:// URIs; its keys are short names of repositories, its
// values what they stand for.
type CVMFS map[string]string

// Resolve implements [Resolver].
func (c CVMFS) Resolve(_ context.Context, uri string) (reference.Reference, error) {
	if host, _, _ := strings.Cut(strings.TrimPrefix(uri, reference.Scheme), "/"); strings.Contains(host, "@") {
		return reference.Reference{}, fmt.Errorf("%w %s: a repository takes no user name or password", ErrUnsupported, show(uri))
	}
	r, err := reference.Parse(uri)
	if err != nil {
		return reference.Reference{}, err
	}
	if name, ok := c[r.Repository]; ok {
		r.Repository = name
	}
	return r, nil
}
