package wishlist

import (
	"bytes"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/reference"
)

// strict decodes doc and refuses fields that are not known: in a list of what
// is to be kept and removed a word misspelt must not be a word ignored.
func strict(doc *yaml.Node, l *List) error {
	text, err := yaml.Marshal(doc)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(l); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

// check refuses what no run could make sense of.
func (l *List) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
	}
	if l.Version != 0 && l.Version != 1 {
		return bad("version %d; only 1 is known", l.Version)
	}
	if l.Repository != "" && l.CVMFSRepo != "" && l.Repository != l.CVMFSRepo {
		return bad("repository %s and cvmfs_repo %s contradict each other", l.Repository, l.CVMFSRepo)
	}
	n := len(l.Images) + len(l.Rootfs) + len(l.Buildpacks) + len(l.Dirs) + len(l.Channels) + len(l.Keep) + len(l.Input)
	switch {
	case n == 0:
		return bad("it lists nothing")
	case n > maxEntries:
		return bad("%d entries, more than %d", n, maxEntries)
	}
	for i, e := range l.Images {
		if err := e.check(); err != nil {
			return bad("images, entry %d: %w", i+1, err)
		}
	}
	for i, text := range l.Input {
		if _, err := parseInput(text); err != nil {
			return bad("input, entry %d: %w", i+1, err)
		}
	}
	for i, e := range l.Rootfs {
		if err := e.check(); err != nil {
			return bad("rootfs, entry %d: %w", i+1, err)
		}
	}
	for i, e := range l.Buildpacks {
		if err := checkFile(e.File, e.Name, e.Version); err != nil {
			return bad("buildpacks, entry %d: %w", i+1, err)
		}
	}
	for i, e := range l.Dirs {
		ref := reference.Reference{Kind: reference.Dirs, Name: e.Name, Version: e.Version}
		if err := ref.Validate(); err != nil || e.Dir == "" || e.Version == "" {
			return bad("dirs, entry %d: name, version and dir are needed (%v)", i+1, err)
		}
	}
	for i, e := range l.Channels {
		if _, err := e.reference(); err != nil {
			return bad("channels, entry %d: %w", i+1, err)
		}
	}
	for i, e := range l.Keep {
		if _, _, err := e.names(); err != nil {
			return bad("keep, entry %d: %w", i+1, err)
		}
	}
	return nil
}

func (e Image) check() error {
	if !source.IsImage(e.Source) {
		return fmt.Errorf("source %q is none: it is written as for rootstock publish image, docker://HOST/REPO:TAG", e.Source)
	}
	if e.Newest < 0 {
		return fmt.Errorf("newest: %d", e.Newest)
	}
	for _, p := range append([]string{e.Source}, e.Exclude...) {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("%q: %w", p, err)
		}
	}
	w, ok := e.registry()
	if ok && (w.host == "" || isPattern(w.host)) {
		return fmt.Errorf("%s: the registry must be named, and not as a pattern", e.Source)
	}
	if !ok || !w.pattern() {
		if len(e.Exclude) > 0 || e.Newest > 0 {
			return fmt.Errorf("%s: exclude and newest go with a pattern for tags of docker://", e.Source)
		}
		return nil
	}
	if e.As != "" && isPattern(w.repository) {
		return fmt.Errorf("%s: as cannot name what several repositories hold", e.Source)
	}
	return nil
}

func (e Rootfs) check() error {
	if e.Image != "" {
		ref := reference.Reference{Kind: reference.Rootfs, Name: e.Name, Version: e.Version}
		switch err := ref.Validate(); {
		case e.File != "" || e.Receipt != "":
			return fmt.Errorf("image %s goes without file and receipt", e.Image)
		case err != nil || e.Version == "" || !source.IsImage(e.Image):
			return fmt.Errorf("image %q needs name and version, and is written as for rootstock publish image (%w)", e.Image, err)
		}
		return nil
	}
	if isPattern(e.File) && e.Receipt != "" {
		return fmt.Errorf("%s: one receipt for what a pattern matches", e.File)
	}
	return checkFile(e.File, e.Name, e.Version)
}

// checkFile checks what a tarball and a zip have in common.
func checkFile(file, name, version string) error {
	if file == "" {
		return fmt.Errorf("file is missing")
	}
	if _, err := filepath.Match(file, ""); err != nil {
		return fmt.Errorf("%q: %w", file, err)
	}
	if (name == "") != (version == "") {
		return fmt.Errorf("%s: name and version go together, or both are what the file says", file)
	}
	if name == "" {
		return nil
	}
	if isPattern(file) {
		return fmt.Errorf("%s: one name and version for what a pattern matches; leave them out, so that each file says its own", file)
	}
	return reference.Reference{Kind: reference.Rootfs, Name: name, Version: version}.Validate()
}

func (e Channel) reference() (reference.Reference, error) {
	ref, err := reference.Parse(e.Name)
	if err != nil {
		return ref, err
	}
	if ref.Version != "" || ref.Channel != "" || ref.Repository != "" || ref.Path != "" {
		return ref, fmt.Errorf("%s: want KIND/NAME alone", e.Name)
	}
	if e.Channel == "" {
		return ref, fmt.Errorf("%s: channel is missing", e.Name)
	}
	if e.Version != "" {
		if err := ref.WithVersion(e.Version).Validate(); err != nil {
			return ref, err
		}
	}
	ref = ref.WithChannel(e.Channel)
	return ref, ref.Validate()
}

func (e Keep) names() (kind reference.Kind, names string, err error) {
	text, names, _ := strings.Cut(e.Name, "/")
	kind = reference.Kind(text)
	if !kind.Valid() || names == "" {
		return kind, names, fmt.Errorf("name %q: want KIND/NAME, with KIND one of rootfs, images, buildpacks, dirs", e.Name)
	}
	if _, err := path.Match(names, ""); err != nil {
		return kind, names, fmt.Errorf("name %q: %w", e.Name, err)
	}
	if e.Versions < 1 {
		return kind, names, fmt.Errorf("%s: versions: %d; at least one stays", e.Name, e.Versions)
	}
	return kind, names, nil
}

func isPattern(s string) bool { return strings.ContainsAny(s, `*?[\`) }
