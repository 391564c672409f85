package packages

import (
	"encoding/json"

	"github.com/rootstock-cf/rootstock/inventory"
)

// readNPM reads a package.json below node_modules. One without name or version
// marks a directory, not a package.
func readNPM(b []byte) (r found) {
	var doc struct {
		Name     string          `json:"name"`
		Version  string          `json:"version"`
		License  json.RawMessage `json:"license"`
		Licenses json.RawMessage `json:"licenses"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return found{gap: reason(err)}
	}
	if doc.Name == "" || doc.Version == "" {
		return r
	}
	p := inventory.Package{Ecosystem: inventory.NPM, Name: doc.Name, Version: doc.Version, License: npmLicense(doc.License)}
	if p.License == "" {
		p.License = npmLicense(doc.Licenses)
	}
	if !proper(&p) {
		return found{gap: strange}
	}
	return found{packages: []inventory.Package{p}}
}

// npmLicense reads the forms the field has had: a name, an object with a type,
// or a list of either.
func npmLicense(raw json.RawMessage) string {
	var name string
	if json.Unmarshal(raw, &name) == nil {
		return name
	}
	var object struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(raw, &object) == nil {
		return object.Type
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return ""
	}
	for _, one := range list {
		object.Type = ""
		if json.Unmarshal(one, &name) != nil {
			if json.Unmarshal(one, &object) != nil {
				continue
			}
			name = object.Type
		}
		if name != "" {
			return name
		}
	}
	return ""
}
