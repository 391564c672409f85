package demand

import (
	"errors"
	"fmt"
	"strings"

	"github.com/rootstock-cf/rootstock/reference"
)

// ErrName reports a name that is no image's.
var ErrName = errors.New("no image's name")

// maxImage bounds an image's name, in bytes.
const maxImage = 1024

// Parse reads REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@DIGEST.
func Parse(image string) (reference.Reference, error) {
	ref := reference.Reference{Kind: reference.Images}
	if len(image) > maxImage {
		return ref, fmt.Errorf("%w: more than %d bytes", ErrName, maxImage)
	}
	name, digest, pinned := strings.Cut(image, "@")
	if pinned {
		ref.Name, ref.Version = name, digest
	} else if colon := strings.LastIndexByte(image, ':'); colon > strings.LastIndexByte(image, '/') {
		ref.Name, ref.Version = image[:colon], image[colon+1:]
	}
	if ref.Version == "" || strings.Contains(ref.Version, ":") != pinned {
		return ref, fmt.Errorf("%w: %q: want REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@sha256:DIGEST", ErrName, image)
	}
	if err := ref.Validate(); err != nil {
		return ref, fmt.Errorf("%w: %w", ErrName, err)
	}
	return ref, nil
}

// Allowed are registries, or repositories in them with all below: docker.io,
// docker.io/library, ghcr.io/team/app.
type Allowed []string

// Check refuses entries that could cover nothing, or more than is meant.
func (a Allowed) Check() error {
	for _, e := range a {
		ref := reference.Reference{Kind: reference.Images, Name: strings.TrimSuffix(e, "/") + "/x"}
		if err := ref.Validate(); err != nil || strings.HasSuffix(e, "/") {
			return fmt.Errorf("%q: want REGISTRY or REGISTRY/REPOSITORY, such as docker.io/library (%w)", e, errors.Join(err, ErrName))
		}
	}
	return nil
}

func (a Allowed) covers(name string) bool {
	for _, e := range a {
		if rest, ok := strings.CutPrefix(name, e); ok && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
}
