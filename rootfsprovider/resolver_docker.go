package rootfsprovider

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rootstock-cf/rootstock/reference"
)

// Docker resolves docker:// URIs to images published in one of its
// repositories, looked at in this order. Without any, it is whatever repository
// the daemon shows.
type Docker []string

// Docker's own names, however they are spelled.
const (
	dockerHub  = "docker.io"
	defaultTag = "latest"
	hubLibrary = "library/"
)

// Resolve implements [Resolver].
func (d Docker) Resolve(_ context.Context, uri string) (Root, error) {
	image, err := parseDocker(uri)
	if err != nil {
		return Root{}, fmt.Errorf("%w %s: %w", ErrUnsupported, show(uri), err)
	}
	root := Root{Image: true, Foreign: true}
	for _, repository := range d {
		image.Repository = repository
		root.Refs = append(root.Refs, image)
	}
	if len(d) == 0 {
		root.Refs = []reference.Reference{image}
	}
	return root, nil
}

// parseDocker reads docker://[HOST]/REPOSITORY[:TAG][@DIGEST] as Docker reads
// an image's name: the first part is a host if it looks like one, a repository
// of one part is in the hub's library, a digest says more than a tag. The first
// '#' means ':' (docs/garden.md 1).
func parseDocker(uri string) (reference.Reference, error) {
	name := strings.TrimPrefix(uri, "docker://")
	if len(name) > reference.MaxLen {
		return reference.Reference{}, fmt.Errorf("longer than %d bytes", reference.MaxLen)
	}
	if i := strings.IndexByte(name, '@'); i >= 0 && !strings.HasPrefix(name[i:], "@sha256:") {
		return reference.Reference{}, errors.New("neither a digest, which begins with @sha256:, nor credentials, which Garden passes apart")
	}
	hub := strings.HasPrefix(name, "/") // docker:///library/busybox
	name = strings.Replace(strings.TrimPrefix(name, "/"), "#", ":", 1)
	name, version, digested := strings.Cut(name, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		if !digested {
			version = name[i+1:]
			if strings.HasPrefix(version, "sha256:") {
				version = "" // a tag has no colon; check says so
			}
		}
		name = name[:i]
	} else if !digested {
		version = defaultTag
	}
	host, rest, more := strings.Cut(name, "/")
	switch looksLikeHost := strings.ContainsAny(host, ".:") || host == "localhost"; {
	case hub && looksLikeHost && more, !hub && looksLikeHost:
	default:
		host, rest = dockerHub, name
	}
	switch host {
	case "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com":
		host = dockerHub
	}
	if host == dockerHub && !strings.Contains(rest, "/") {
		rest = hubLibrary + rest
	}
	if version == "" {
		return reference.Reference{}, errors.New("want docker://REGISTRY/REPOSITORY with :TAG or @sha256:DIGEST")
	}
	r := reference.Reference{Kind: reference.Images, Name: host + "/" + rest, Version: version}
	return r, r.Validate()
}

// Public says whose images anybody may run: registries ("docker.io"),
// everything below a name ("docker.io/library"), or a repository
// ("ghcr.io/org/app").
type Public []string

// Covers reports whether the image is public.
func (p Public) Covers(image reference.Reference) bool {
	for _, name := range p {
		if image.Name == name || strings.HasPrefix(image.Name, name+"/") {
			return true
		}
	}
	return false
}

// registryOf is the host of an image's name.
func registryOf(name string) string {
	host, _, _ := strings.Cut(name, "/")
	return host
}
