package source

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
)

// saved is one image in the manifest.json that docker save writes.
type saved struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// dockerArchive resolves an image of a docker-archive. It has no manifest and
// no digests of layers as they lie in the archive; the config's diff ids are
// what proves them.
func (r *resolver) dockerArchive(ctx context.Context, path, ref string) error {
	a, err := openArchive(ctx, path, r.options)
	if err != nil {
		return err
	}
	s := r.source
	s.closers = append(s.closers, a.close)
	const list = "manifest.json"
	raw, err := readFile(ctx, a, list, maxManifest)
	if err != nil {
		return fmt.Errorf("%w; is this what docker save writes?", err)
	}
	var images []saved
	if err := json.Unmarshal(raw, &images); err != nil {
		return fmt.Errorf("%w %s: %w", ErrFormat, list, err)
	}
	image, tag, err := pick(images, ref)
	if err != nil {
		return err
	}
	if len(image.Layers) > maxLayers {
		return fmt.Errorf("%w: %d layers, more than %d", ErrTooLarge, len(image.Layers), maxLayers)
	}
	if s.Config, err = readFile(ctx, a, image.Config, maxConfig); err != nil {
		return err
	}
	s.ConfigDigest = digestOf(s.Config)
	s.Digest = s.ConfigDigest
	s.setName(tag)
	diffIDs, err := r.parseConfig(s.Config)
	if err != nil {
		return err
	}
	if len(diffIDs) != len(image.Layers) {
		return fmt.Errorf("%w: %s lists %d layers, the config %d diff ids", ErrFormat, list, len(image.Layers), len(diffIDs))
	}
	total := &budget{max: r.options.MaxBytes}
	for i, file := range image.Layers {
		b, err := a.blob(file)
		if err != nil {
			return fmt.Errorf("layer %s: %w", diffIDs[i], err)
		}
		l := &layer{what: "layer " + diffIDs[i], reading: newReading(b, r.options, total)}
		l.want = want{size: -1, diffID: diffIDs[i]}
		s.Layers = append(s.Layers, l)
	}
	return nil
}

// pick finds the image that carries ref, or the only one there is.
func pick(images []saved, ref string) (saved, string, error) {
	var all []string
	for _, i := range images {
		all = append(all, i.RepoTags...)
	}
	if ref == "" {
		if len(images) != 1 {
			return saved{}, "", fmt.Errorf("%w: %d images, tagged %s; name one behind a colon", ErrUnsupported, len(images), quoteList(all))
		}
		if len(images[0].RepoTags) == 0 {
			return images[0], "", nil
		}
		return images[0], images[0].RepoTags[0], nil
	}
	wanted, err := name.NewTag(ref)
	if err != nil {
		return saved{}, "", fmt.Errorf("%w: %w", ErrFormat, err)
	}
	for _, i := range images {
		at := slices.IndexFunc(i.RepoTags, func(t string) bool {
			has, err := name.NewTag(t)
			return err == nil && has.Name() == wanted.Name()
		})
		if at >= 0 {
			return i, i.RepoTags[at], nil
		}
	}
	return saved{}, "", fmt.Errorf("%w: no image tagged %q, there are %s", ErrNotFound, ref, quoteList(all))
}
