package packages

import (
	"bytes"
	"strings"
)

// readOSRelease reads os-release(5).
func readOSRelease(b []byte) (r found) {
	for line := range lines(b) {
		name, value, ok := bytes.Cut(line, []byte("="))
		if !ok {
			continue
		}
		text := optional(strings.Trim(string(value), `"'`), maxName)
		switch string(name) {
		case "ID":
			r.distro.ID = strings.ToLower(text)
		case "VERSION_ID":
			r.distro.Version = text
		case "PRETTY_NAME":
			r.distro.Name = text
		}
	}
	return r
}
