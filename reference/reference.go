// Package reference names what a repository delivers, as people, manifests and
// the rootfs URIs of Cloud Foundry spell it:
//
//	KIND/NAME[@VERSION|:CHANNEL]
//	cvmfs://FQRN/KIND/NAME[@VERSION|:CHANNEL]
//	cvmfs://FQRN/-/PATH
//
// KIND is rootfs, buildpacks, images or dirs. An image's NAME is
// registry/repository and its VERSION a tag or sha256:<64 hex digits>. A
// reference without version or channel means the newest version. The last form
// names a path inside the repository whatever it holds.
//
// The first '#' of a text means ':', because that is what Garden makes of it
// before a plugin sees the URI (docs/garden.md 1); so a reference means the same
// on a command line and in an app's manifest.
//
// Text comes from outside and is hostile: [Parse] accepts one spelling per
// reference, bounded, without control characters, "." or "..", so that paths
// made of a reference never leave the directory they belong to. The package
// does no I/O and imports nothing of this module.
package reference

import (
	"errors"
	"fmt"
	"strings"
)

// ErrInvalid reports text that is not a reference.
var ErrInvalid = errors.New("invalid reference")

// Scheme begins a reference that names its repository.
const Scheme = "cvmfs://"

// MaxLen is the most bytes a reference's text may have.
const MaxLen = 4096

// Kind is what sort of tree a reference names.
type Kind string

// The kinds, spelled as the directories that hold them
// (docs/design/repository.md).
const (
	Rootfs     Kind = "rootfs"
	Buildpacks Kind = "buildpacks"
	Images     Kind = "images"
	Dirs       Kind = "dirs"
)

// Valid reports whether k is one of the four kinds.
func (k Kind) Valid() bool {
	switch k {
	case Rootfs, Buildpacks, Images, Dirs:
		return true
	}
	return false
}

// Reference is a parsed reference. It is comparable. Either Kind and Name are
// set, or Path alone is.
type Reference struct {
	// Repository is the fully qualified repository name, or the alias a
	// configuration gives it; empty where the text names none.
	Repository string
	Kind       Kind
	Name       string // of an image: registry/repository
	Version    string // at most one of Version and Channel is set
	Channel    string
	// Path is absolute inside the repository, without trailing slash; "/"
	// is its root. Only in the form cvmfs://FQRN/-/PATH.
	Path string
}

// Parse reads any of the three forms. Its errors wrap [ErrInvalid] and name
// the text.
func Parse(text string) (Reference, error) {
	r, err := parse(text)
	if err == nil {
		err = r.check()
	}
	if err != nil {
		return Reference{}, fmt.Errorf("%w %s: %w", ErrInvalid, quote(text), err)
	}
	return r, nil
}

func parse(text string) (Reference, error) {
	if len(text) > MaxLen {
		return Reference{}, fmt.Errorf("longer than %d bytes", MaxLen)
	}
	text = strings.Replace(text, "#", ":", 1)
	var r Reference
	if rest, ok := strings.CutPrefix(text, Scheme); ok {
		r.Repository, text, ok = strings.Cut(rest, "/")
		if !ok || r.Repository == "" {
			return Reference{}, errors.New("want cvmfs://REPOSITORY/KIND/NAME or cvmfs://REPOSITORY/-/PATH")
		}
	} else if scheme, _, ok := strings.Cut(text, "://"); ok {
		return Reference{}, fmt.Errorf("the scheme %s is not cvmfs", quote(scheme))
	}
	kind, name, ok := strings.Cut(text, "/")
	if !ok {
		return Reference{}, errors.New("want KIND/NAME, KIND one of rootfs, buildpacks, images, dirs")
	}
	if kind == "-" {
		if r.Repository == "" {
			return Reference{}, errors.New("a path needs a repository: cvmfs://REPOSITORY/-/PATH")
		}
		r.Path = "/" + name
		return r, nil
	}
	r.Kind = Kind(kind)
	r.Name, r.Version, r.Channel = splitName(name)
	if strings.HasSuffix(name, "@") || strings.HasSuffix(name, ":") {
		return Reference{}, errors.New("nothing follows the last sign")
	}
	return r, nil
}

// splitName takes the version or the channel off. A colon before the last
// slash belongs to a registry's port, one after '@' to a digest.
func splitName(s string) (name, version, channel string) {
	if name, version, ok := strings.Cut(s, "@"); ok {
		return name, version, ""
	}
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, '/') {
		return s[:i], "", s[i+1:]
	}
	return s, "", ""
}

// Validate reports whether r is one that [Parse] would have returned.
func (r Reference) Validate() error {
	if err := r.check(); err != nil {
		return fmt.Errorf("%w %s: %w", ErrInvalid, quote(r.String()), err)
	}
	return nil
}

// String returns the text [Parse] reads back as r. It says nothing sensible
// about a reference that is not valid.
func (r Reference) String() string {
	var b strings.Builder
	if r.Repository != "" {
		b.WriteString(Scheme)
		b.WriteString(r.Repository)
		b.WriteByte('/')
	}
	if r.Path != "" {
		b.WriteByte('-')
		b.WriteString(r.Path)
		return b.String()
	}
	b.WriteString(string(r.Kind))
	b.WriteByte('/')
	b.WriteString(r.Name)
	if r.Version != "" {
		b.WriteByte('@')
		b.WriteString(r.Version)
	}
	if r.Channel != "" {
		b.WriteByte(':')
		b.WriteString(r.Channel)
	}
	return b.String()
}

// MarshalText makes a reference travel in JSON as its text.
func (r Reference) MarshalText() ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return []byte(r.String()), nil
}

// UnmarshalText is [Parse].
func (r *Reference) UnmarshalText(text []byte) (err error) {
	*r, err = Parse(string(text))
	return err
}

// quote makes hostile text fit for a message: escaped and cut short.
func quote(s string) string {
	const most = 128
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
