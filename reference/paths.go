package reference

import "strings"

// Where things lie in a repository (docs/design/repository.md). All paths are
// absolute and inside the repository.

// RepositoryPath returns the path r stands for: a version's directory, an image tag's
// symlink, a channel's symlink or the raw path. ok is false where r names
// neither version nor channel; then [Reference.VersionsDir] holds the choice.
func (r Reference) RepositoryPath() (path string, ok bool) {
	switch {
	case r.Path != "":
		return r.Path, true
	case r.Channel != "":
		return r.ChannelsDir() + "/" + r.Channel, true
	case r.Version == "":
		return "", false
	}
	return r.VersionsDir() + "/" + r.versionPrefix() + r.Version, true
}

// VersionsDir returns the directory that lists the versions of r's name;
// [Reference.VersionOf] tells what each name in it is. It is empty for a raw
// path.
func (r Reference) VersionsDir() string {
	switch r.Kind {
	case "":
		return ""
	case Images:
		return "/" + r.Name[:max(strings.LastIndexByte(r.Name, '/'), 0)]
	}
	return "/" + string(r.Kind) + "/" + r.Name
}

// VersionOf tells which version of r's name an entry of VersionsDir is. ok is
// false for an entry that is none: a marker, or in an image's case another
// repository of the same registry.
func (r Reference) VersionOf(entry string) (version string, ok bool) {
	version, ok = strings.CutPrefix(entry, r.versionPrefix())
	if !ok || version == "" {
		return "", false
	}
	return version, r.WithVersion(version).check() == nil
}

// versionPrefix is what stands before the version in its entry's name.
func (r Reference) versionPrefix() string {
	if r.Kind != Images {
		return ""
	}
	return r.Name[strings.LastIndexByte(r.Name, '/')+1:] + ":"
}

// ChannelsDir returns the directory of the channels of r's name; empty for a
// raw path.
func (r Reference) ChannelsDir() string {
	if r.Kind == "" {
		return ""
	}
	return "/channels/" + string(r.Kind) + "/" + r.Name
}

// WithVersion returns r pinned to a version instead of a channel or the newest.
func (r Reference) WithVersion(version string) Reference {
	r.Version, r.Channel = version, ""
	return r
}

// WithChannel returns r as its channel leads instead of pinned to a version.
func (r Reference) WithChannel(channel string) Reference {
	r.Version, r.Channel = "", channel
	return r
}

// Digest returns the digest of an image pinned by one, sha256:<64 hex digits>.
func (r Reference) Digest() (digest string, ok bool) {
	if r.Kind != Images || !strings.HasPrefix(r.Version, digestPrefix) {
		return "", false
	}
	return r.Version, true
}
