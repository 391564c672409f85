package inventory

import (
	"cmp"
	"strings"

	packageurl "github.com/package-url/packageurl-go"
)

// PackageURL returns p's package URL (github.com/package-url/purl-spec), given
// the system it lies in.
func PackageURL(p *Package, d Distro) string {
	namespace, name := "", p.Name
	var qualifiers packageurl.Qualifiers
	add := func(key, value string) {
		if value != "" {
			qualifiers = append(qualifiers, packageurl.Qualifier{Key: key, Value: value})
		}
	}
	switch p.Ecosystem {
	case Deb, APK:
		namespace = cmp.Or(d.ID, map[Ecosystem]string{Deb: "debian", APK: "alpine"}[p.Ecosystem])
		add("arch", p.Arch)
		if d.ID != "" && d.Version != "" {
			add("distro", d.ID+"-"+d.Version)
		}
	case NPM, Golang:
		if i := strings.LastIndexByte(name, '/'); i > 0 {
			namespace, name = name[:i], name[i+1:]
		}
	case Maven:
		if group, artifact, ok := strings.Cut(name, ":"); ok {
			namespace, name = group, artifact
		}
	case PyPI:
		name = NormalPyPI(name)
	case Generic:
		if p.SHA256 != "" {
			add("checksum", "sha256:"+p.SHA256)
		}
	}
	return packageurl.NewPackageURL(string(p.Ecosystem), namespace, name, p.Version, qualifiers, "").ToString()
}

// NormalPyPI returns the one spelling of a Python project's name: lower case,
// runs of '-', '_' and '.' as one '-' (PEP 503).
func NormalPyPI(name string) string {
	var b strings.Builder
	dash := false
	for _, c := range strings.ToLower(name) {
		if c == '-' || c == '_' || c == '.' {
			dash = true
			continue
		}
		if dash && b.Len() > 0 {
			b.WriteByte('-')
		}
		dash = false
		b.WriteRune(c)
	}
	return b.String()
}
