// Package thinbuildpack writes thin buildpacks: zips of a few kilobytes that
// stand in Cloud Controller for a published buildpack of hundreds of megabytes
// (docs/garden.md 1). Diego's rep downloads what Cloud Controller has before
// Garden is asked for a container, so no mount can take the download's place;
// but the scripts in it can run those of a read-only mount that rootstock-plugin
// adds to staging containers.
//
// A thin buildpack has the scripts that the real one has and no others, because
// Diego's lifecycle decides by their presence what it calls: bin/finalize or
// bin/compile, bin/supply or nothing. Its scripts refuse to run a mounted
// buildpack that differs in that, and say what to do.
package thinbuildpack

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/rootstock-cf/rootstock/reference"
)

// Scripts are those that Diego's lifecycle calls, in bin/.
var Scripts = []string{"detect", "compile", "supply", "finalize", "release"}

// Descriptor is what a thin buildpack stands for.
type Descriptor struct {
	// Ref names the repository and a version or channel, or neither for the
	// newest version. It is shown to people: what is mounted is what the
	// plugin's configuration says.
	Ref reference.Reference
	// Mount is the directory of the container where the plugin mounts it.
	Mount string
	// Dir is the directory below Mount that has bin/, "" for Mount itself.
	Dir string
	// Has names those of Scripts that the buildpack has.
	Has []string
	// Version is the text of the buildpack's file VERSION, "" for none. If
	// Ref names a version, a mounted buildpack must have the same.
	Version string
	// Language and Stack are those of its manifest.yml, "" for none. Cloud
	// Controller reads the stack when a buildpack is uploaded.
	Language, Stack string
}

var (
	mounts   = regexp.MustCompile(`^(/[A-Za-z0-9._+~@-]+)+$`)
	versions = regexp.MustCompile(`^[A-Za-z0-9._+~@-]{1,128}$`)
)

func (d *Descriptor) check() error {
	if err := d.Ref.Validate(); err != nil {
		return err
	}
	switch {
	case d.Ref.Repository == "" || d.Ref.Kind != reference.Buildpacks || d.Ref.Path != "":
		return fmt.Errorf("%s: a thin buildpack names a repository and a buildpack: cvmfs://REPOSITORY/buildpacks/NAME[@VERSION|:CHANNEL]", d.Ref)
	case !mounts.MatchString(d.Mount) || path.Clean(d.Mount) != d.Mount:
		return fmt.Errorf("mount %q is not the clean, absolute path of a directory in the container", d.Mount)
	case d.Dir != "" && !mounts.MatchString("/"+d.Dir) || strings.Contains("/"+d.Dir+"/", "/../"):
		return fmt.Errorf("the buildpack's own directory is called %q; zip it anew from inside that directory", d.Dir)
	case d.Version != "" && !versions.MatchString(d.Version):
		return fmt.Errorf("its VERSION says %.200q, which is no version", d.Version)
	}
	for _, s := range d.Has {
		if !slices.Contains(Scripts, s) {
			return fmt.Errorf("script %q: Diego calls %s", s, strings.Join(Scripts, ", "))
		}
	}
	if !slices.Contains(d.Has, "finalize") && !slices.Contains(d.Has, "compile") && !slices.Contains(d.Has, "supply") {
		return errors.New("no buildpack: it has none of bin/supply, bin/finalize and bin/compile")
	}
	return nil
}

// Write writes the thin buildpack of d. The same descriptor gives the same
// bytes.
func Write(w io.Writer, d Descriptor) error {
	if err := d.check(); err != nil {
		return fmt.Errorf("thin buildpack: %w", err)
	}
	about, err := json.Marshal(struct {
		Format int                 `json:"format"`
		Ref    reference.Reference `json:"reference"`
		Mount  string              `json:"mount"`
	}{1, d.Ref, d.Mount})
	if err != nil {
		return fmt.Errorf("thin buildpack: %w", err)
	}
	z := zip.NewWriter(w)
	add := func(name, text string, mode os.FileMode) {
		// Stored, so that no compressor's next release changes the bytes.
		h := &zip.FileHeader{Name: name, Method: zip.Store, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
		h.SetMode(mode)
		f, cerr := z.CreateHeader(h)
		if cerr == nil && text != "" {
			_, cerr = io.WriteString(f, text)
		}
		err = errors.Join(err, cerr)
	}
	add("bin/", "", 0o755|os.ModeDir)
	for _, s := range Scripts {
		if slices.Contains(d.Has, s) {
			add("bin/"+s, d.script(s), 0o755)
		}
	}
	if d.Version != "" {
		add("VERSION", d.Version+"\n", 0o644)
	}
	if d.Language != "" || d.Stack != "" {
		text, merr := yaml.Marshal(struct {
			Language string `yaml:"language,omitempty"`
			Stack    string `yaml:"stack,omitempty"`
		}{d.Language, d.Stack})
		err = errors.Join(err, merr)
		add("manifest.yml", "---\n"+string(text), 0o644)
	}
	add("rootstock.json", string(about)+"\n", 0o644)
	if err := errors.Join(err, z.Close()); err != nil {
		return fmt.Errorf("thin buildpack: %w", err)
	}
	return nil
}

// WriteFile writes the thin buildpack of d to file, whole or not at all.
func WriteFile(file string, d Descriptor) error {
	var b bytes.Buffer
	if err := Write(&b, d); err != nil {
		return err
	}
	tmp := filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+".new")
	err := os.WriteFile(tmp, b.Bytes(), 0o644) // #nosec G306 -- it is to be uploaded by somebody
	if err == nil {
		err = os.Rename(tmp, file)
	}
	if err != nil {
		os.Remove(tmp) //nolint:errcheck // the first error counts
		return fmt.Errorf("thin buildpack: %w", err)
	}
	return nil
}
