package rootfsprovider

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/rootfsprovider/ociimage"
)

// ErrUnsupported reports a rootfs URI that no resolver is there for.
var ErrUnsupported = errors.New("unsupported rootfs")

// Root is what a rootfs URI names.
type Root struct {
	// Refs are where the tree may be published, in the order to look.
	Refs []reference.Reference
	// Tree is the id of the only tree that will do; empty for any.
	Tree string
	// Image is set for an image by its Docker name: its registry decides who
	// may run it, and another plugin may know it if it is not published.
	Image bool
	// Foreign is set where another plugin may know what is not published.
	Foreign bool
	// Droplet goes on top of the tree; nil for none.
	Droplet *ociimage.Layer
}

// Resolver turns a rootfs URI, as Garden passes it, into what it names. Its
// errors wrap [ErrUnsupported] where another plugin may know better.
type Resolver interface {
	Resolve(ctx context.Context, uri string) (Root, error)
}

// Schemes resolves by a URI's scheme. The empty scheme is that of a bare path.
type Schemes map[string]Resolver

// Resolve implements [Resolver].
func (s Schemes) Resolve(ctx context.Context, uri string) (Root, error) {
	scheme, _, ok := strings.Cut(uri, "://")
	if !ok {
		scheme = ""
	}
	r, ok := s[scheme]
	if ok {
		return r.Resolve(ctx, uri)
	}
	return Root{}, fmt.Errorf("%w %s: this plugin serves cvmfs://REPOSITORY/KIND/NAME, docker://, oci:// and the paths of stacks",
		ErrUnsupported, show(uri))
}

// show makes a URI fit for a message that users see: one line, bounded, and
// without a user name or password in front of the host.
func show(uri string) string {
	const most = 200
	if scheme, rest, ok := strings.Cut(uri, "://"); ok {
		host, path, _ := strings.Cut(rest, "/")
		if i := strings.LastIndexByte(host, '@'); i >= 0 && !strings.HasPrefix(host[i:], "@sha256:") {
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
func (c CVMFS) Resolve(_ context.Context, uri string) (Root, error) {
	r, err := c.parse(uri)
	if err != nil {
		return Root{}, err
	}
	return Root{Refs: []reference.Reference{r}}, nil
}

func (c CVMFS) parse(uri string) (reference.Reference, error) {
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
