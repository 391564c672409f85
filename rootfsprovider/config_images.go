package rootfsprovider

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/reference"
)

// maxPool bounds Config.Pool.
const maxPool = 64

// Images is the part of the configuration about docker:// images.
type Images struct {
	// ImageRepositories are looked in for images, in order; without any, what
	// the daemon shows.
	ImageRepositories []string `json:"image_repositories,omitempty"`
	// Public says whose images anybody may run; see [Public]. For any other,
	// the registry is asked.
	Public Public `json:"public,omitempty"`
	// Registries says how registries are reached, by host or host:port.
	Registries map[string]Registry `json:"registries,omitempty"`
	// Wishes says whom to tell of public images that are not published; nil
	// for nobody.
	Wishes *Wishes `json:"wishes,omitempty"`
}

// Wishes is how a publisher is reached.
type Wishes struct {
	// URL takes wishes (docs/design/wishes.md).
	URL string `json:"url"`
	// CA is a file of PEM certificates to trust instead of the system's.
	CA string `json:"ca,omitempty"`
	// Token is a file with a bearer token of the publisher's.
	Token string `json:"token,omitempty"`
}

func (w *Wishes) check() error {
	if w == nil {
		return nil
	}
	if !strings.HasPrefix(w.URL, "https://") && !strings.HasPrefix(w.URL, "http://") {
		return fmt.Errorf("wishes: url: %q is no http or https URL", w.URL)
	}
	if w.Token != "" {
		if err := checkPath("wishes: token", w.Token); err != nil {
			return err
		}
	}
	if w.CA != "" {
		return checkPath("wishes: ca", w.CA)
	}
	return nil
}

// maxSent bounds a file whose text is sent to the daemon, in bytes.
const maxSent = 32 << 10

// fileText reads a file that key of the configuration names; "" is none. The
// plugin does it, and not the daemon that needs it: so whoever may speak to the
// daemon cannot have a file of its own sent away, and the daemon, in a container
// of bpm's, does not see the plugin's configuration.
func fileText(key, path string) (string, error) {
	if path == "" {
		return "", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	defer f.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(io.LimitReader(f, maxSent+1))
	if err == nil && len(text) > maxSent {
		err = fmt.Errorf("%s has more than %d bytes", path, maxSent)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	return strings.TrimSpace(string(text)), nil
}

// Registry says how a registry is reached.
type Registry struct {
	// PlainHTTP lets credentials travel without TLS.
	PlainHTTP bool `json:"plain_http,omitempty"`
	// CA is a file of PEM certificates to trust instead of the system's.
	CA string `json:"ca,omitempty"`
}

func (i Images) check() error {
	for _, name := range i.ImageRepositories {
		r := reference.Reference{Repository: name, Kind: reference.Rootfs, Name: "x"}
		if err := r.Validate(); err != nil {
			return fmt.Errorf("image_repositories: %q is not a repository's name", name)
		}
	}
	for _, name := range i.Public {
		// A registry, or any beginning of a name.
		r := reference.Reference{Kind: reference.Images, Name: name}
		if !strings.Contains(name, "/") {
			r.Name += "/x"
		}
		if err := r.Validate(); err != nil {
			return fmt.Errorf("public: %q is neither REGISTRY nor REGISTRY/REPOSITORY: %w", name, err)
		}
	}
	for host, r := range i.Registries {
		if err := (reference.Reference{Kind: reference.Images, Name: host + "/x"}).Validate(); err != nil {
			return fmt.Errorf("registries: %q is not a host: %w", host, err)
		}
		if r.CA != "" {
			if err := checkPath("registries: "+host+": ca", r.CA); err != nil {
				return err
			}
		}
	}
	return i.Wishes.check()
}

// Stacking is the part of the configuration about stacks and what goes on top
// of them.
type Stacking struct {
	// Stacks names published root file systems, as cvmfs:// URIs.
	Stacks map[string]string `json:"stacks,omitempty"`
	// Preloaded maps paths that Diego knows stacks by to cvmfs:// URIs. A
	// path that is a thin tar needs no entry.
	Preloaded map[string]string `json:"preloaded,omitempty"`
	// TrustedCerts is a file of PEM certificates that the containers of
	// Stacks trust besides their own; empty for none.
	TrustedCerts string `json:"trusted_certs,omitempty"`
	// Droplets says how layers are fetched that arrive as URLs.
	Droplets Droplets `json:"droplets"`
	// Buildpacks says which containers see published buildpacks.
	Buildpacks *Buildpacks `json:"buildpacks,omitempty"`
}

// Droplets says how layers are fetched that arrive as URLs.
type Droplets struct {
	// Fetcher is the rootstock-cell program, which does it; by default the
	// one beside the plugin.
	Fetcher string `json:"fetcher,omitempty"`
	// Certificate and Key are PEM files shown to the server, CA one of the
	// certificates to trust instead of the system's.
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`
	CA          string `json:"ca,omitempty"`
}

// Buildpacks is a rule: containers of Stacks whose handle matches see
// buildpacks, read-only. Diego tells staging containers apart by nothing but
// their handle and root.
type Buildpacks struct {
	// Handles is a regular expression for the whole handle.
	Handles string `json:"handles"`
	// Mounts maps directories in the container to cvmfs:// URIs.
	Mounts map[string]string `json:"mounts"`
}

func (s Stacking) check(aliases CVMFS) error {
	for name, uri := range s.Stacks {
		if control.CheckHandle(name) != nil { // it becomes a file name
			return fmt.Errorf("stacks: %q is not a stack's name", name)
		}
		ref, err := aliases.parse(uri)
		if err != nil {
			return fmt.Errorf("stacks: %s: %w", name, err)
		}
		if ref.Repository == "" || ref.Kind == "" {
			return fmt.Errorf("stacks: %s: want cvmfs://REPOSITORY/rootfs/NAME[@VERSION|:CHANNEL], not %s", name, ref)
		}
	}
	for path, uri := range s.Preloaded {
		if err := checkPath("preloaded", path); err != nil {
			return err
		}
		if _, err := aliases.parse(uri); err != nil {
			return fmt.Errorf("preloaded: %s: %w", path, err)
		}
	}
	for key, path := range map[string]string{
		"trusted_certs": s.TrustedCerts, "droplets.fetcher": s.Droplets.Fetcher, "droplets.certificate": s.Droplets.Certificate,
		"droplets.key": s.Droplets.Key, "droplets.ca": s.Droplets.CA,
	} {
		if path != "" {
			if err := checkPath(key, path); err != nil {
				return err
			}
		}
	}
	if (s.Droplets.Certificate == "") != (s.Droplets.Key == "") {
		return errors.New("droplets: certificate and key come together")
	}
	return s.Buildpacks.check(aliases)
}

func (b *Buildpacks) check(aliases CVMFS) error {
	if b == nil {
		return nil
	}
	if _, err := regexp.Compile(b.Handles); err != nil || b.Handles == "" {
		return fmt.Errorf("buildpacks: handles: %q is not a regular expression", b.Handles)
	}
	for dir, uri := range b.Mounts {
		if err := checkPath("buildpacks", dir); err != nil {
			return err
		}
		if _, err := aliases.parse(uri); err != nil {
			return fmt.Errorf("buildpacks: %s: %w", dir, err)
		}
	}
	return nil
}
