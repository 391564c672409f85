package wishlist

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/rootstock-cf/rootstock/publisher/source"
)

// maxImages bounds what one entry's patterns match.
const maxImages = 10_000

// wanted names images in a registry.
type wanted struct {
	host, repository string
	tag, digest      string // digest wins
}

func (w wanted) pattern() bool { return isPattern(w.repository) || isPattern(w.tag) }

// spec is how the image is opened.
func (w wanted) spec() string {
	if w.digest != "" {
		return "docker://" + w.host + "/" + w.repository + "@" + w.digest
	}
	return "docker://" + w.host + "/" + w.repository + ":" + w.tag
}

// registry takes docker://HOST/REPO:TAG apart; ok is false for an image that is
// in no registry.
func (e Image) registry() (w wanted, ok bool) {
	rest, ok := strings.CutPrefix(e.Source, "docker://")
	if !ok {
		return w, false
	}
	return split(rest), true
}

// split takes HOST/REPO[:TAG][@DIGEST] apart.
func split(text string) (w wanted) {
	w.host, w.repository, _ = strings.Cut(text, "/")
	w.repository, w.digest, _ = strings.Cut(w.repository, "@")
	if colon := strings.LastIndexByte(w.repository, ':'); colon > strings.LastIndexByte(w.repository, '/') {
		w.repository, w.tag = w.repository[:colon], w.repository[colon+1:]
	}
	return w
}

// parseInput reads an entry of a recipe: https://HOST/REPO[:TAG][@DIGEST]. As in
// DUCC the registry's name stays as it is written, since it is the directory
// that images are found in.
func parseInput(text string) (Image, error) {
	u, err := url.Parse(text)
	if err != nil {
		return Image{}, fmt.Errorf("%q is no URL: %w", text, err)
	}
	if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return Image{}, fmt.Errorf("%q: want https://REGISTRY/REPOSITORY:TAG", text)
	}
	w := split(u.Host + "/" + strings.Trim(u.Path, "/"))
	if w.repository == "" {
		return Image{}, fmt.Errorf("%q: no repository in it", text)
	}
	if w.tag == "" {
		w.tag = "latest"
	}
	e := Image{Source: w.spec()}
	if w.digest != "" && w.tag != "latest" {
		e.As = w.host + "/" + w.repository + ":" + w.tag
	}
	return e, e.check()
}

// found is one image that an entry means.
type found struct{ spec, as string }

// expand looks up what an entry's patterns match.
func (e Image) expand(ctx context.Context, o source.Options) ([]found, error) {
	w, ok := e.registry()
	if !ok || !w.pattern() {
		return []found{{e.Source, e.As}}, nil
	}
	repositories := []string{w.repository}
	if isPattern(w.repository) {
		all, err := source.Repositories(ctx, w.host, o)
		if err != nil {
			return nil, err
		}
		if repositories, err = match(all, w.repository, nil); err != nil {
			return nil, err
		}
	}
	var images []found
	for _, r := range repositories {
		tags, err := e.tags(ctx, wanted{host: w.host, repository: r, tag: w.tag}, o)
		if err != nil {
			return nil, err
		}
		for _, t := range tags {
			f := found{spec: wanted{host: w.host, repository: r, tag: t}.spec()}
			if e.As != "" {
				f.as = e.As
				if isPattern(w.tag) {
					f.as += ":" + t
				}
			}
			images = append(images, f)
		}
		if len(images) > maxImages {
			return nil, fmt.Errorf("%s: %w: more than %d images", e.Source, source.ErrTooLarge, maxImages)
		}
	}
	if len(images) == 0 {
		return nil, fmt.Errorf("%s: %w: nothing in the registry matches", e.Source, source.ErrNotFound)
	}
	return images, nil
}

// tags lists the tags of one repository that the entry means.
func (e Image) tags(ctx context.Context, w wanted, o source.Options) ([]string, error) {
	if w.tag == "" {
		return []string{"latest"}, nil
	}
	if !isPattern(w.tag) {
		return []string{w.tag}, nil
	}
	all, err := source.Tags(ctx, w.host+"/"+w.repository, o)
	if err != nil {
		return nil, err
	}
	exclude := e.Exclude
	if !strings.HasPrefix(w.tag, "sha256-") {
		exclude = append(slices.Clone(exclude), "sha256-*") // signatures and the like of other images
	}
	tags, err := match(all, w.tag, exclude)
	if err != nil {
		return nil, err
	}
	if e.Newest > 0 && len(tags) > e.Newest {
		slices.SortFunc(tags, compareVersions)
		tags = tags[len(tags)-e.Newest:]
	}
	return tags, nil
}

// match returns the names that pattern matches and none of the others does.
func match(names []string, pattern string, others []string) (matched []string, err error) {
	for _, n := range names {
		ok, err := path.Match(pattern, n)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", pattern, err)
		}
		for _, x := range others {
			out, err := path.Match(x, n)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", x, err)
			}
			ok = ok && !out
		}
		if ok {
			matched = append(matched, n)
		}
	}
	return matched, nil
}
