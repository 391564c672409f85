package packages

import "github.com/rootstock-cf/rootstock/inventory"

// readAPK reads apk's database of installed packages: one letter, a colon and
// a value per line, an empty line after each package.
func readAPK(b []byte) (r found) {
	p := inventory.Package{Ecosystem: inventory.APK}
	began := false
	end := func() {
		if began {
			if proper(&p) {
				r.packages = append(r.packages, p)
			} else {
				r.gap = strange
			}
		}
		p, began = inventory.Package{Ecosystem: inventory.APK}, false
	}
	for line := range lines(b) {
		if len(line) == 0 {
			end()
			continue
		}
		if len(line) < 2 || line[1] != ':' {
			continue
		}
		into := map[byte]*string{'P': &p.Name, 'V': &p.Version, 'A': &p.Arch, 'L': &p.License, 'o': &p.Source}[line[0]]
		if into != nil {
			*into, began = string(line[2:]), true
		}
	}
	end()
	return r
}
