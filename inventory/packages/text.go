package packages

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rootstock-cf/rootstock/inventory"
)

// Bounds of what a package may say of itself, in bytes.
const (
	maxName    = 512
	maxVersion = 512
	maxLicense = 256
	maxReason  = 200
)

// plain reports whether s is short, printable and not empty: fit to be shown
// to people and written into documents.
func plain(s string, limit int) bool {
	if s == "" || len(s) > limit || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// optional is s if it is plain, else nothing.
func optional(s string, limit int) string {
	if s = strings.TrimSpace(s); plain(s, limit) {
		return s
	}
	return ""
}

// proper reports whether p has a name and a version that can be believed to be
// some, and drops what else of it cannot.
func proper(p *inventory.Package) bool {
	p.License = optional(p.License, maxLicense)
	p.Arch = optional(p.Arch, maxName)
	p.Source, p.SourceVersion = optional(p.Source, maxName), optional(p.SourceVersion, maxVersion)
	if p.Source == p.Name {
		p.Source = ""
	}
	if p.SourceVersion == p.Version {
		p.SourceVersion = ""
	}
	return plain(p.Name, maxName) && plain(p.Version, maxVersion)
}

// strange is the gap left by entries that say what no honest tool writes.
const strange = "an entry's name or version is missing, too long or not text"

// reason is an error as the reason of a gap.
func reason(err error) string {
	s := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(err.Error(), "?"))
	for len(s) > maxReason {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}
