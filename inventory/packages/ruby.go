package packages

import (
	"regexp"
	"strings"

	"github.com/rootstock-cf/rootstock/inventory"
)

// A gemspec is a Ruby program. RubyGems writes those it installs in one form,
// and that form is read, as text.
var (
	gemStub    = regexp.MustCompile(`(?m)^# stub: (\S+) (\S+) `)
	gemName    = regexp.MustCompile(`(?m)^\s*\w+\.name\s*=\s*["']([^"']+)["']`)
	gemVersion = regexp.MustCompile(`(?m)^\s*\w+\.version\s*=\s*(?:Gem::Version\.new\(?\s*)?["']([^"']+)["']`)
	gemLicense = regexp.MustCompile(`(?m)^\s*\w+\.licenses?\s*=\s*\[?([^\]\n]*)`)
	quoted     = regexp.MustCompile(`["']([^"']+)["']`)
)

// readRuby reads an installed gemspec.
func readRuby(b []byte) (r found) {
	p := inventory.Package{Ecosystem: inventory.Gem}
	if m := gemStub.FindSubmatch(b); m != nil {
		p.Name, p.Version = string(m[1]), string(m[2])
	} else {
		p.Name, p.Version = submatch(gemName, b), submatch(gemVersion, b)
	}
	var all []string
	for _, m := range quoted.FindAllStringSubmatch(submatch(gemLicense, b), 8) {
		all = append(all, m[1])
	}
	p.License = strings.Join(all, " OR ")
	if !proper(&p) {
		return found{gap: "name and version are not where RubyGems writes them"}
	}
	return found{packages: []inventory.Package{p}}
}

func submatch(form *regexp.Regexp, b []byte) string {
	if m := form.FindSubmatch(b); m != nil {
		return string(m[1])
	}
	return ""
}
