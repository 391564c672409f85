package reference

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds in bytes. A version is one path component with room for the markers
// and suffixes that stand beside it; an image's are those of the OCI
// distribution specification.
const (
	maxRepository = 128
	maxName       = 128
	maxVersion    = 128
	maxRegistry   = 255
	maxImageRepo  = 255
	maxComponent  = 255
	digestPrefix  = "sha256:"
	digestDigits  = 64
)

func (r Reference) check() error {
	if r.Repository != "" {
		if err := checkWord("repository", r.Repository, maxRepository, ".-_"); err != nil {
			return err
		}
	}
	if r.Path != "" {
		if r.Repository == "" || r.Kind != "" || r.Name != "" || r.Version != "" || r.Channel != "" {
			return errors.New("a path stands alone behind its repository")
		}
		return checkPath(r.Path)
	}
	if !r.Kind.Valid() {
		return fmt.Errorf("kind %s is not one of rootfs, buildpacks, images, dirs", quote(string(r.Kind)))
	}
	if r.Version != "" && r.Channel != "" {
		return errors.New("both a version and a channel")
	}
	if r.Channel != "" {
		if err := checkWord("channel", r.Channel, maxVersion, "._+~-"); err != nil {
			return err
		}
		// <channel>.json beside a channel holds its history
		// (docs/design/repository.md).
		if strings.HasSuffix(r.Channel, ".json") {
			return fmt.Errorf("channel %q ends in .json, which names a channel's rings", r.Channel)
		}
	}
	if r.Kind == Images {
		return r.checkImage()
	}
	if r.Version != "" {
		if err := checkWord("version", r.Version, maxVersion, "._+~-"); err != nil {
			return err
		}
	}
	return checkWord("name", r.Name, maxName, "._+~-")
}

// checkWord demands one path component: a letter or digit, then more of them
// or one of the signs.
func checkWord(what, s string, most int, signs string) error {
	if s == "" {
		return fmt.Errorf("empty %s", what)
	}
	if len(s) > most {
		return fmt.Errorf("%s longer than %d bytes", what, most)
	}
	for i := range len(s) {
		c := s[i]
		if isAlnum(c) || i > 0 && strings.IndexByte(signs, c) >= 0 {
			continue
		}
		return fmt.Errorf("%s %s: %q is not allowed there; use letters, digits and, after the first, %s",
			what, quote(s), c, signs)
	}
	return nil
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func isLowerAlnum(c byte) bool { return isAlnum(c) && (c < 'A' || c > 'Z') }

func (r Reference) checkImage() error {
	registry, repository, ok := strings.Cut(r.Name, "/")
	if !ok {
		return fmt.Errorf("image %s: want registry/repository, as in docker.io/library/nginx", quote(r.Name))
	}
	if err := checkRegistry(registry); err != nil {
		return err
	}
	if len(repository) > maxImageRepo {
		return fmt.Errorf("image repository longer than %d bytes", maxImageRepo)
	}
	for part := range strings.SplitSeq(repository, "/") {
		if !isRepositoryPart(part) {
			return fmt.Errorf("image repository %s: %s is not a lower-case name", quote(repository), quote(part))
		}
	}
	if r.Version == "" {
		return nil
	}
	if digits, ok := strings.CutPrefix(r.Version, digestPrefix); ok {
		if !isHex(digits) || len(digits) != digestDigits {
			return fmt.Errorf("digest %s is not sha256: and %d lower-case hex digits", quote(r.Version), digestDigits)
		}
		return nil
	}
	if r.Version[0] == '_' { // a tag may begin with it, other versions not
		return checkWord("tag", "a"+r.Version, maxVersion+1, "._-")
	}
	return checkWord("tag", r.Version, maxVersion, "._-")
}

// checkRegistry demands what Docker takes for a host: a dot, a port or
// localhost. That keeps /<registry> apart from the other directories at a
// repository's root.
func checkRegistry(s string) error {
	host, port, hasPort := strings.Cut(s, ":")
	if err := checkWord("registry", host, maxRegistry, ".-"); err != nil {
		return err
	}
	if !hasPort && host != "localhost" && !strings.Contains(host, ".") {
		return fmt.Errorf("registry %s is not a host: it has no dot and no port", quote(s))
	}
	if host != strings.ToLower(host) || strings.Contains(host, "..") {
		return fmt.Errorf("registry %s is not a lower-case host name", quote(s))
	}
	if !hasPort {
		return nil
	}
	if port == "" || len(port) > 5 || strings.Trim(port, "0123456789") != "" {
		return fmt.Errorf("registry %s: its port is not a number", quote(s))
	}
	return nil
}

// isRepositoryPart follows the OCI distribution specification: runs of lower
// case letters and digits, between them ".", "_", "__" or dashes.
func isRepositoryPart(s string) bool {
	if s == "" || !isLowerAlnum(s[0]) || !isLowerAlnum(s[len(s)-1]) {
		return false
	}
	for i := 0; i < len(s); {
		n := 0
		for i+n < len(s) && !isLowerAlnum(s[i+n]) {
			n++
		}
		switch sep := s[i : i+n]; {
		case sep == "", sep == ".", sep == "_", sep == "__", strings.Trim(sep, "-") == "":
		default:
			return false
		}
		i += n + 1
	}
	return true
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

func checkPath(p string) error {
	if p == "/" {
		return nil
	}
	if !strings.HasPrefix(p, "/") {
		return fmt.Errorf("path %s is not absolute", quote(p))
	}
	if !utf8.ValidString(p) {
		return fmt.Errorf("path %s is not UTF-8", quote(p))
	}
	for part := range strings.SplitSeq(p[1:], "/") {
		switch {
		case part == "", part == ".", part == "..":
			return fmt.Errorf("path %s: component %q is not allowed", quote(p), part)
		case len(part) > maxComponent:
			return fmt.Errorf("path %s: a component is longer than %d bytes", quote(p), maxComponent)
		case strings.ContainsFunc(part, unicode.IsControl), strings.Contains(part, "#"):
			return fmt.Errorf("path %s: control characters and a second '#' are not allowed", quote(p))
		}
	}
	return nil
}
