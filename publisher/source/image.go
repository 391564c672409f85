package source

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	maxManifest = 4 << 20  // bytes of a manifest or index; what registries accept
	maxConfig   = 16 << 20 // bytes of an image's config
	maxLayers   = 1024
	maxNesting  = 4 // indexes within indexes
)

// container is a place that holds images as manifests and blobs.
type container interface {
	// root returns the manifest or index the operator named.
	root(ctx context.Context) (raw []byte, mediaType types.MediaType, err error)
	// manifest and config return a small blob, unverified.
	manifest(ctx context.Context, d v1.Descriptor) ([]byte, error)
	config(ctx context.Context, d v1.Descriptor) ([]byte, error)
	// layer returns a large blob, unverified, without reading it yet.
	layer(d v1.Descriptor) (blob, error)
	// close forgets everything spooled.
	close() error
}

// OpenImage opens an image, spelled as skopeo does:
//
//	docker://HOST/REPO[:TAG|@sha256:…]   a registry; docker.io/library if left out
//	oci:DIR[:REF]                        an OCI image layout, or a tar of one
//	oci-archive:FILE[:REF]               a tar of one
//	docker-archive:FILE[:REF]            what docker save writes
//
// Of an index it takes the image for Options.Platform. Manifest and config are
// read and verified at once, layers when they are opened.
func OpenImage(ctx context.Context, spec string, o Options) (*Source, error) {
	o = o.withDefaults()
	platform, err := v1.ParsePlatform(o.Platform)
	if err != nil {
		return nil, fmt.Errorf("platform %q: %w; it is written os/arch[/variant]", o.Platform, err)
	}
	s := &Source{Kind: KindImage, Spelled: spelled(spec)}
	r := resolver{platform: *platform, options: o, source: s}
	c, err := r.open(ctx, spec)
	if err == nil && c != nil {
		err = r.resolve(ctx, c)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("image %s: %w", spec, err), s.Close())
	}
	return s, nil
}

// spelled is spec without directories of this machine.
func spelled(spec string) string {
	transport, rest, found := strings.Cut(spec, ":")
	if !found || transport == "docker" {
		return spec
	}
	dir, ref, tagged := strings.Cut(rest, ":")
	if spec = transport + ":" + filepath.Base(dir); tagged {
		spec += ":" + ref
	}
	return spec
}

// IsImage reports whether spec is written as an image is, and not as a file.
func IsImage(spec string) bool {
	transport, _, found := strings.Cut(spec, ":")
	return found && slices.Contains([]string{"docker", "oci", "oci-archive", "docker-archive"}, transport)
}

// Platforms lists the platforms of an image, as Options.Platform has them; that
// of a single image is what Options say, and OpenImage checks it. What an index
// holds besides images (attestations) is not listed.
func Platforms(ctx context.Context, spec string, o Options) (_ []string, err error) {
	s := &Source{}
	defer func() { err = errors.Join(err, s.Close()) }()
	o = o.withDefaults()
	r := resolver{options: o, source: s}
	if strings.HasPrefix(spec, "docker-archive:") {
		return []string{o.Platform}, nil
	}
	c, err := r.open(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", spec, err)
	}
	raw, mediaType, err := c.root(ctx)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", spec, err)
	}
	if !isIndex(raw, mediaType) {
		return []string{o.Platform}, nil
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("image %s: %w index: %w", spec, ErrFormat, err)
	}
	var all []string
	for _, d := range index.Manifests {
		if d.Platform == nil || d.Platform.OS == "unknown" || d.Platform.OS == "" {
			continue
		}
		// OS versions, of Windows, tell images apart that OS/ARCH does not.
		p := v1.Platform{OS: d.Platform.OS, Architecture: d.Platform.Architecture, Variant: d.Platform.Variant}
		if !slices.Contains(all, p.String()) {
			all = append(all, p.String())
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("image %s: %w: its index names no platform; choose with --platform", spec, ErrNotFound)
	}
	return all, nil
}

// open opens the place that spec names; for a docker-archive, which has no
// manifests, it reads the image and returns nil.
func (r *resolver) open(ctx context.Context, spec string) (c container, err error) {
	transport, rest, found := strings.Cut(spec, ":")
	if !found {
		return nil, fmt.Errorf("%w: it must begin with docker://, oci:, oci-archive: or docker-archive: and say what", ErrUnsupported)
	}
	path, ref, _ := strings.Cut(rest, ":")
	switch transport {
	case "docker":
		c, err = openRegistry(rest, r.options, r.source)
	case "oci":
		c, err = openLayout(ctx, path, ref, r.options, r.source)
	case "oci-archive":
		c, err = openLayoutArchive(ctx, path, ref, r.options, r.source)
	case "docker-archive":
		return nil, r.dockerArchive(ctx, path, ref)
	default:
		return nil, fmt.Errorf("%w: transport %q; known are docker, oci, oci-archive, docker-archive", ErrUnsupported, transport)
	}
	if err == nil {
		r.source.closers = append(r.source.closers, c.close)
	}
	return c, err
}

// resolver goes from a named manifest to layers.
type resolver struct {
	platform v1.Platform
	options  Options
	source   *Source
}

func (r *resolver) resolve(ctx context.Context, c container) error {
	raw, mediaType, err := c.root(ctx)
	if err != nil {
		return err
	}
	for range maxNesting {
		if !isIndex(raw, mediaType) {
			return r.image(ctx, c, raw, mediaType)
		}
		d, err := r.choose(raw)
		if err != nil {
			return err
		}
		if raw, err = c.manifest(ctx, d); err != nil {
			return err
		}
		if err := verify("manifest", raw, d); err != nil {
			return err
		}
		mediaType = d.MediaType
	}
	return fmt.Errorf("%w: indexes nested more than %d deep", ErrUnsupported, maxNesting)
}

// isIndex believes the bytes where no media type was given.
func isIndex(raw []byte, t types.MediaType) bool {
	if t != "" {
		return t.IsIndex()
	}
	var m struct {
		MediaType types.MediaType   `json:"mediaType"`
		Manifests []json.RawMessage `json:"manifests"`
	}
	return json.Unmarshal(raw, &m) == nil && (m.MediaType.IsIndex() || m.MediaType == "" && m.Manifests != nil)
}

// choose finds the wanted platform in an index. A nested index without a
// platform is entered if it is all there is.
func (r *resolver) choose(raw []byte) (v1.Descriptor, error) {
	index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("%w index: %w", ErrFormat, err)
	}
	var there []string
	for _, d := range index.Manifests {
		if d.Platform != nil && d.Platform.Satisfies(r.platform) {
			return d, nil
		}
		if d.Platform != nil && d.Platform.OS != "unknown" { // attestations are
			there = append(there, d.Platform.String())
		}
	}
	if len(index.Manifests) == 1 && index.Manifests[0].Platform == nil {
		return index.Manifests[0], nil
	}
	return v1.Descriptor{}, fmt.Errorf("%w: no image for platform %s, it has %s; choose with --platform",
		ErrNotFound, r.platform.String(), quoteList(there))
}

func quoteList(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// image reads a manifest and its config and lists its layers.
func (r *resolver) image(ctx context.Context, c container, raw []byte, mediaType types.MediaType) error {
	if mediaType.IsSchema1() {
		return fmt.Errorf("%w: docker schema 1 manifest; push the image again with a current tool", ErrUnsupported)
	}
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("%w manifest: %w", ErrFormat, err)
	}
	if len(m.Layers) > maxLayers {
		return fmt.Errorf("%w: %d layers, more than %d", ErrTooLarge, len(m.Layers), maxLayers)
	}
	if !m.Config.MediaType.IsConfig() {
		return fmt.Errorf("%w: its config has media type %q: an artifact, not a container image", ErrUnsupported, m.Config.MediaType)
	}
	config, err := c.config(ctx, m.Config)
	if err != nil {
		return fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	if err := verify("config", config, m.Config); err != nil {
		return err
	}
	s := r.source
	s.Digest, s.Manifest = digestOf(raw), raw
	s.ConfigDigest, s.Config = m.Config.Digest.String(), config
	diffIDs, err := r.parseConfig(config)
	if err != nil {
		return err
	}
	if len(diffIDs) != len(m.Layers) {
		return fmt.Errorf("%w: the manifest lists %d layers, the config %d diff ids", ErrFormat, len(m.Layers), len(diffIDs))
	}
	total := &budget{max: r.options.MaxBytes}
	for i, d := range m.Layers {
		if err := checkLayer(d); err != nil {
			return fmt.Errorf("layer %s: %w", d.Digest, err)
		}
		b, err := c.layer(d)
		if err != nil {
			return fmt.Errorf("layer %s: %w", d.Digest, err)
		}
		l := &layer{what: "layer " + d.Digest.String(), reading: newReading(b, r.options, total)}
		l.want = want{digest: d.Digest.String(), size: d.Size, diffID: diffIDs[i]}
		s.Layers = append(s.Layers, l)
	}
	return nil
}

// parseConfig returns the diff ids and refuses a config for another platform,
// whose programs would not run.
func (r *resolver) parseConfig(raw []byte) ([]string, error) {
	config, err := v1.ParseConfigFile(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("%w config: %w", ErrFormat, err)
	}
	is := config.Platform()
	if is == nil {
		is = &v1.Platform{}
	}
	if is.OS != "" && is.OS != r.platform.OS || is.Architecture != "" && is.Architecture != r.platform.Architecture {
		return nil, fmt.Errorf("%w: it is for %s, not %s; choose with --platform", ErrNotFound, is, r.platform.String())
	}
	ids := make([]string, len(config.RootFS.DiffIDs))
	for i, id := range config.RootFS.DiffIDs {
		if id.Algorithm != "sha256" {
			return nil, fmt.Errorf("%w: diff id %s is not SHA-256", ErrUnsupported, id)
		}
		ids[i] = id.String()
	}
	return ids, nil
}

func checkLayer(d v1.Descriptor) error {
	switch t := d.MediaType; {
	case d.Digest.Algorithm != "sha256":
		return fmt.Errorf("%w: its digest is not SHA-256", ErrUnsupported)
	case d.Size < 0:
		return fmt.Errorf("%w: size %d", ErrFormat, d.Size)
	case !t.IsDistributable() || t == "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd":
		return fmt.Errorf("%w: a foreign layer (%s), which lies outside the registry and may not be passed on", ErrUnsupported, t)
	case !t.IsLayer():
		return fmt.Errorf("%w: media type %q is no file system layer", ErrUnsupported, t)
	}
	return nil
}

// verify proves a small blob.
func verify(what string, raw []byte, d v1.Descriptor) error {
	w := want{digest: d.Digest.String(), size: d.Size}
	if err := w.blob(digestOf(raw), int64(len(raw))); err != nil {
		return fmt.Errorf("%s %s: %w", what, d.Digest, err)
	}
	return nil
}

// readSmall reads at most limit bytes of r.
func readSmall(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	return b, err
}
