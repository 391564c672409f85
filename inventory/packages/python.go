package packages

import (
	"bytes"
	"strings"

	"github.com/rootstock-cf/rootstock/inventory"
)

// readPython reads the headers of a METADATA or PKG-INFO file.
func readPython(b []byte) (r found) {
	p := inventory.Package{Ecosystem: inventory.PyPI}
	expression := ""
	for line := range lines(b) {
		if len(line) == 0 {
			break // the description follows
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || line[0] == ' ' || line[0] == '\t' {
			continue
		}
		text := strings.TrimSpace(string(value))
		switch strings.ToLower(string(name)) {
		case "name":
			p.Name = text
		case "version":
			p.Version = text
		case "license":
			p.License = text
		case "license-expression":
			expression = text
		}
	}
	if expression != "" {
		p.License = expression
	}
	if p.License == "UNKNOWN" {
		p.License = ""
	}
	if !proper(&p) {
		return found{gap: strange}
	}
	return found{packages: []inventory.Package{p}}
}
