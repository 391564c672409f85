package wishlist

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/reference"
)

// Steps makes the steps of the list for a repository: trees first, then
// channels, then what is removed. It asks registries and looks at files where
// the list has patterns; ctx and o are those of the sources, too.
func (l *List) Steps(ctx context.Context, repository string, o source.Options) ([]publisher.Step, error) {
	for _, meant := range []string{l.Repository, l.CVMFSRepo} {
		if meant != "" && meant != repository {
			return nil, fmt.Errorf("the list is for %s, the store holds %s; name the other one with --store, or leave repository out of the list", meant, repository)
		}
	}
	steps := l.images(ctx, o)
	for _, e := range l.Rootfs {
		steps = append(steps, l.rootfs(e, o)...)
	}
	for _, e := range l.Buildpacks {
		steps = append(steps, l.files(reference.Buildpacks, e.File, e.Name, e.Version, func(ctx context.Context, file string) (*source.Source, error) {
			return source.OpenBuildpack(ctx, file, o)
		})...)
	}
	for _, e := range l.Dirs {
		ref, dir := reference.Reference{Kind: reference.Dirs, Name: e.Name, Version: e.Version}, l.at(e.Dir)
		steps = append(steps, put(dir, ref, func(ctx context.Context) (*source.Source, error) {
			return source.OpenDir(ctx, dir, o)
		}))
	}
	for _, e := range l.Channels {
		ref, err := e.reference()
		if err != nil {
			return nil, err
		}
		steps = append(steps, &publisher.Point{Channel: ref, Version: e.Version})
	}
	for _, e := range l.Keep {
		kind, names, err := e.names()
		if err != nil {
			return nil, err
		}
		steps = append(steps, &publisher.Keep{Kind: kind, Names: names, Versions: e.Versions})
	}
	return steps, nil
}

// at is where a file named in the list is.
func (l *List) at(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(l.dir, name)
}

// images makes a step of each image, once however many entries mean it.
func (l *List) images(ctx context.Context, o source.Options) (steps []publisher.Step) {
	all := slices.Clone(l.Images)
	for _, text := range l.Input {
		if e, err := parseInput(text); err == nil { // checked when it was read
			all = append(all, e)
		}
	}
	type key struct {
		found
		platform string
	}
	met := map[key]bool{}
	for _, e := range all {
		o := o
		if e.Platform != "" {
			o.Platform = e.Platform
		}
		images, err := e.expand(ctx, o)
		if err != nil {
			steps = append(steps, failed(e.Source, reference.Images, err))
			continue
		}
		for _, f := range images {
			if k := (key{f, e.Platform}); met[k] {
				continue
			} else {
				met[k] = true
			}
			steps = append(steps, image(l.image(f.spec), f.as, o))
		}
	}
	return steps
}

// image is spec with the name of a file in it where the list's are.
func (l *List) image(spec string) string {
	for _, t := range []string{"oci:", "oci-archive:", "docker-archive:"} {
		if len(spec) > len(t) && spec[:len(t)] == t {
			return t + l.at(spec[len(t):])
		}
	}
	return spec
}

// image is the step that publishes one image.
func image(spec, as string, o source.Options) publisher.Step {
	s := &publisher.Put{Name: spec, Kind: reference.Images}
	if w, ok := (Image{Source: spec}).registry(); ok && as == "" && w.tag != "" {
		s.Reference = reference.Reference{Kind: reference.Images, Name: w.host + "/" + w.repository, Version: w.tag}
		if s.Reference.Validate() != nil || !strings.Contains(w.repository, "/") {
			s.Reference = reference.Reference{} // the source knows it in full: docker.io/debian has a library in it
		}
	}
	s.Open = func(ctx context.Context) (publisher.Job, error) {
		src, err := source.OpenImage(ctx, spec, o)
		if err != nil {
			return publisher.Job{}, err
		}
		ref, err := publisher.ImageReference(src, as)
		if err != nil {
			return publisher.Job{}, errors.Join(fmt.Errorf("%s: %w", spec, err), src.Close())
		}
		return publisher.Job{Reference: ref, Source: src}, nil
	}
	return s
}

func (l *List) rootfs(e Rootfs, o source.Options) []publisher.Step {
	if e.Image != "" {
		ref := reference.Reference{Kind: reference.Rootfs, Name: e.Name, Version: e.Version}
		return []publisher.Step{put(e.Image, ref, func(ctx context.Context) (*source.Source, error) {
			return source.OpenImage(ctx, l.image(e.Image), o)
		})}
	}
	return l.files(reference.Rootfs, e.File, e.Name, e.Version, func(ctx context.Context, file string) (*source.Source, error) {
		src, err := source.OpenRootfs(ctx, file, o)
		if err != nil {
			return nil, err
		}
		if e.Version == "" {
			err = src.StackVersion(ctx, file)
		}
		receipt := e.Receipt
		if receipt != "" {
			receipt = l.at(receipt)
		} else {
			receipt = source.FindReceipt(file)
		}
		if err == nil && receipt != "" {
			err = src.TakeReceipt(receipt)
		}
		if err != nil {
			return nil, errors.Join(err, src.Close())
		}
		return src, nil
	})
}

// files makes a step of each file that a name or pattern means.
func (l *List) files(kind reference.Kind, file, name, version string,
	open func(ctx context.Context, file string) (*source.Source, error),
) (steps []publisher.Step) {
	names := []string{l.at(file)}
	if isPattern(file) {
		var err error
		if names, err = filepath.Glob(l.at(file)); err != nil || len(names) == 0 {
			return []publisher.Step{failed(file, kind, errors.Join(fmt.Errorf("no file matches %s", l.at(file)), err))}
		}
	}
	for _, n := range names {
		ref := reference.Reference{Kind: kind, Name: name, Version: version}
		steps = append(steps, put(n, ref, func(ctx context.Context) (*source.Source, error) { return open(ctx, n) }))
	}
	return steps
}

// put is the step that publishes one source as ref, or without a name in ref as
// what the source says of itself.
func put(name string, ref reference.Reference, open func(ctx context.Context) (*source.Source, error)) publisher.Step {
	return &publisher.Put{Name: name, Kind: ref.Kind, Reference: ref, Open: func(ctx context.Context) (publisher.Job, error) {
		src, err := open(ctx)
		if err != nil {
			return publisher.Job{}, err
		}
		ref := ref
		if ref.Name == "" {
			ref.Name, ref.Version = src.Name, src.Version
		}
		if ref.Name == "" || ref.Version == "" {
			return publisher.Job{}, errors.Join(fmt.Errorf("%s does not say its name and version: give them in the list", name), src.Close())
		}
		return publisher.Job{Reference: ref, Source: src}, nil
	}}
}

// failed is a step that can do nothing but say why.
func failed(name string, kind reference.Kind, err error) publisher.Step {
	return &publisher.Put{Name: name, Kind: kind, Open: func(context.Context) (publisher.Job, error) {
		return publisher.Job{}, err
	}}
}
