package packages

import (
	"encoding/hex"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/rootstock-cf/rootstock/inventory"
)

// readBuildpack reads the dependencies of a buildpack's manifest.yml. Other
// manifests of that name have none.
func readBuildpack(b []byte) (r found) {
	var doc struct {
		Dependencies []struct {
			Name    string   `yaml:"name"`
			Version string   `yaml:"version"`
			SHA256  string   `yaml:"sha256"`
			Stacks  []string `yaml:"cf_stacks"`
			File    string   `yaml:"file"` // in the zip, of one that brings it along
		} `yaml:"dependencies"`
	}
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return found{gap: reason(err)}
	}
	for _, d := range doc.Dependencies {
		p := inventory.Package{Ecosystem: inventory.Generic, Name: d.Name, Version: d.Version}
		if digest, err := hex.DecodeString(d.SHA256); err == nil && len(digest) == 32 {
			p.SHA256 = strings.ToLower(d.SHA256)
		}
		for _, s := range d.Stacks {
			if plain(s, maxName) {
				p.Stacks = append(p.Stacks, s)
			}
		}
		if d.File != "" && path.Clean(d.File) == d.File && path.IsAbs("/"+d.File) && plain(d.File, 4095) && !strings.HasPrefix(d.File, "!") {
			p.Path = d.File
		}
		if !proper(&p) {
			r.gap = strange
			continue
		}
		r.packages = append(r.packages, p)
	}
	return r
}
