package publisher

import (
	"errors"
	"fmt"
	"strings"

	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/reference"
)

// ErrNameless reports an image of which nobody has said what it is called.
var ErrNameless = errors.New("this source does not say what the image is called: give a name, REGISTRY/REPOSITORY:TAG")

// ImageReference is the name an image is published under: its own, or as,
// REGISTRY/REPOSITORY:TAG, unless that is "". An image without a tag has its
// digest for a version.
func ImageReference(src *source.Source, as string) (reference.Reference, error) {
	ref := reference.Reference{Kind: reference.Images, Name: src.Registry + "/" + src.Repository, Version: src.Tag}
	if as != "" {
		slash := strings.LastIndexByte(as, '/')
		colon := strings.LastIndexByte(as, ':')
		if colon < slash {
			return ref, fmt.Errorf("%s: a tag is missing", as)
		}
		ref.Name, ref.Version = as[:colon], as[colon+1:]
	}
	if ref.Version == "" {
		ref.Version = src.Digest
	}
	if src.Registry == "" && as == "" {
		return ref, ErrNameless
	}
	return ref, ref.Validate()
}
