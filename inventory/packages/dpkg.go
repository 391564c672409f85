package packages

import (
	"bytes"
	"strings"

	"github.com/rootstock-cf/rootstock/inventory"
)

// readDpkg reads dpkg's status file, or one of status.d, where images without
// dpkg keep one stanza per file and leave the Status field out.
func readDpkg(b []byte) (r found) {
	for stanza := range stanzas(b) {
		status, has := stanza.get("Status")
		if has && !installed(status) {
			continue
		}
		p := inventory.Package{Ecosystem: inventory.Deb}
		p.Name, _ = stanza.get("Package")
		p.Version, _ = stanza.get("Version")
		p.Arch, _ = stanza.get("Architecture")
		if source, ok := stanza.get("Source"); ok {
			p.Source, p.SourceVersion, _ = strings.Cut(source, " ")
			p.SourceVersion = strings.Trim(p.SourceVersion, " ()")
		}
		if !proper(&p) {
			r.gap = strange
			continue
		}
		r.packages = append(r.packages, p)
	}
	return r
}

// installed reports whether a Status field ("install ok installed") means that
// the package's files are there.
func installed(status string) bool {
	f := strings.Fields(status)
	return len(f) == 3 && f[2] != "not-installed" && f[2] != "config-files"
}

// readReceipt reads the list of `dpkg -l` that is cflinuxfs's receipt.
func readReceipt(b []byte) (r found) {
	for line := range lines(b) {
		f := bytes.Fields(line)
		if len(f) < 4 || len(f[0]) < 2 || len(f[0]) > 3 || f[0][1] == 'n' || f[0][1] == 'c' || !isState(f[0]) {
			continue
		}
		name, _, _ := strings.Cut(string(f[1]), ":")
		p := inventory.Package{Ecosystem: inventory.Deb, Name: name, Version: string(f[2]), Arch: string(f[3])}
		if !proper(&p) {
			r.gap = strange
			continue
		}
		r.packages = append(r.packages, p)
	}
	return r
}

// isState reports whether f is dpkg's two or three letters for wanted, status
// and error.
func isState(f []byte) bool {
	return bytes.IndexByte([]byte("uirph"), f[0]) >= 0 && bytes.IndexByte([]byte("nicUFHWt"), f[1]) >= 0
}

// stanza is the first line of each field of a paragraph.
type stanza map[string]string

func (s stanza) get(field string) (string, bool) {
	v, ok := s[field]
	return v, ok
}

// wanted are the fields of a stanza that are kept: descriptions are most of a
// status file.
var wanted = map[string]bool{"Package": true, "Status": true, "Version": true, "Architecture": true, "Source": true}

// stanzas yields the paragraphs of a file in the form of deb822(5). The map is
// used again for the next one.
func stanzas(b []byte) func(yield func(stanza) bool) {
	return func(yield func(stanza) bool) {
		s := stanza{}
		for line := range lines(b) {
			if len(bytes.TrimSpace(line)) == 0 {
				if len(s) > 0 && !yield(s) {
					return
				}
				clear(s)
				continue
			}
			name, value, ok := bytes.Cut(line, []byte(":"))
			if ok && wanted[string(name)] {
				s[string(name)] = string(bytes.TrimSpace(value))
			}
		}
		if len(s) > 0 {
			yield(s)
		}
	}
}
