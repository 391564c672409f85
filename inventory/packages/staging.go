package packages

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/rootstock-cf/rootstock/inventory"
)

// readDepsConfig reads deps/N/config.yml, in which a buildpack says its name and
// version.
func readDepsConfig(b []byte) (r found) {
	var doc struct {
		Name    string `yaml:"name"`
		Version string `yaml:"version"`
	}
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return found{gap: reason(err)}
	}
	return buildpackOf(doc.Name, doc.Version)
}

// maxTokens bounds the words of a detected buildpack.
const maxTokens = 256

// readStagingInfo reads the staging_info.yml of a droplet, in which the last
// buildpack says what it is: "ruby 1.9.4", or, as Java's, every part that it
// brought along as NAME=VERSION.
func readStagingInfo(b []byte) (r found) {
	var doc struct {
		Detected string `yaml:"detected_buildpack"`
	}
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return found{gap: reason(err)}
	}
	words := strings.Fields(doc.Detected)
	if len(words) == 2 && !strings.Contains(doc.Detected, "=") && isDigit(words[1][0]) {
		return buildpackOf(words[0], words[1])
	}
	for _, word := range words[:min(len(words), maxTokens)] {
		name, version, ok := strings.Cut(word, "=")
		if !ok {
			continue
		}
		p := inventory.Package{Ecosystem: inventory.Generic, Name: name, Version: version}
		if !proper(&p) {
			r.gap = strange
			continue
		}
		r.packages = append(r.packages, p)
	}
	if len(words) > maxTokens {
		r.gap = strange
	}
	return r
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// buildpackOf is a buildpack that says its version; one that does not cannot be
// looked for.
func buildpackOf(name, version string) (r found) {
	if name == "" || version == "" {
		return r
	}
	p := inventory.Package{Ecosystem: inventory.Generic, Name: name + "-buildpack", Version: version}
	if !proper(&p) {
		return found{gap: strange}
	}
	return found{packages: []inventory.Package{p}}
}
