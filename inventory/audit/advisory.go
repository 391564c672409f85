package audit

import (
	"fmt"
	"strings"

	packageurl "github.com/package-url/packageurl-go"

	"github.com/rootstock-cf/rootstock/inventory"
	"github.com/rootstock-cf/rootstock/inventory/version"
)

// Advisory is a question: which packages, at which versions, are in question.
type Advisory struct {
	ID       string // of a query, its own text
	Aliases  []string
	Summary  string
	Affected []Affected
}

// Affected is a package and its versions in question: those in one of Ranges,
// one of Versions, or all that satisfy Constraint.
type Affected struct {
	Ecosystem inventory.Ecosystem // "" for any
	Distro    inventory.Distro    // of a distribution's package; empty fields match all
	Name      string
	// All says that Constraint alone decides, as in a query.
	All        bool
	Constraint version.Constraint
	Ranges     []Range
	Versions   []string
}

// Range is a span of versions: from Introduced on, "0" meaning from the first,
// to before Fixed or up to Last; neither means without end.
type Range struct{ Introduced, Fixed, Last string }

// schemes says by which order an ecosystem's versions are compared.
var schemes = map[inventory.Ecosystem]version.Scheme{
	inventory.Deb: version.Dpkg, inventory.APK: version.APK, inventory.NPM: version.NPM, inventory.PyPI: version.PEP,
	inventory.Gem: version.Gem, inventory.Maven: version.Maven, inventory.Golang: version.Go, inventory.Generic: version.Loose,
}

// affects reports whether version v of ecosystem e is in question. An error
// says that the versions cannot be compared.
func (a *Affected) affects(e inventory.Ecosystem, v string) (bool, error) {
	scheme := schemes[e]
	if a.All {
		return a.Constraint.Holds(scheme, v)
	}
	for _, one := range a.Versions {
		if one == v {
			return true, nil
		}
	}
	if len(a.Ranges) == 0 {
		return false, nil
	}
	at, err := version.Parse(scheme, v)
	if err != nil {
		return false, err
	}
	for _, r := range a.Ranges {
		if in, err := r.holds(scheme, at); err != nil || in {
			return in, err
		}
	}
	return false, nil
}

func (r Range) holds(s version.Scheme, at version.Version) (bool, error) {
	for _, bound := range []struct {
		text string
		ok   func(c int) bool
	}{
		{r.Introduced, func(c int) bool { return c >= 0 }},
		{r.Fixed, func(c int) bool { return c < 0 }},
		{r.Last, func(c int) bool { return c <= 0 }},
	} {
		if bound.text == "" || bound.text == "0" {
			continue
		}
		b, err := version.Parse(s, bound.text)
		if err != nil {
			return false, err
		}
		if !bound.ok(at.Compare(b)) {
			return false, nil
		}
	}
	return true, nil
}

// distroMatches reports whether a tree of system d is one a speaks of. Where
// the tree does not say what it is, it may be.
func (a *Affected) distroMatches(d inventory.Distro) bool {
	if a.Distro.ID == "" || d.ID == "" {
		return true
	}
	if a.Distro.ID != d.ID {
		return false
	}
	return a.Distro.Version == "" || d.Version == "" || d.Version == a.Distro.Version || strings.HasPrefix(d.Version, a.Distro.Version+".")
}

// ParseQuery reads a question as people write it: a name or a package URL, and
// comparisons, as in
//
//	openssl < 3.0.2-0ubuntu1.18
//	pkg:npm/bcrypt >= 4, < 5.0.0
//	log4j
//
// A name alone is looked for in every ecosystem, each with its own order of
// versions, and among source packages too.
func ParseQuery(text string) (Advisory, error) {
	text = strings.TrimSpace(text)
	name, rest := text, ""
	cut := "<>=! "
	if strings.HasPrefix(text, "pkg:") {
		cut = "<>! " // a package URL may have qualifiers
	}
	if i := strings.IndexAny(text, cut); i >= 0 {
		name, rest = text[:i], text[i:]
	}
	c, err := version.ParseConstraint(rest)
	if err != nil {
		return Advisory{}, fmt.Errorf("query %q: %w", text, err)
	}
	a := Affected{Name: name, All: true, Constraint: c}
	if strings.HasPrefix(name, "pkg:") {
		if err := a.byURL(name); err != nil {
			return Advisory{}, fmt.Errorf("query %q: %w", text, err)
		}
	}
	if a.Name == "" {
		return Advisory{}, fmt.Errorf("query %q: it names no package; write for example 'openssl < 3.0.2-0ubuntu1.18'", text)
	}
	return Advisory{ID: text, Affected: []Affected{a}}, nil
}

// byURL takes a's package from a package URL.
func (a *Affected) byURL(text string) error {
	p, err := packageurl.FromString(text)
	if err != nil {
		return fmt.Errorf("%q is no package URL: %w", text, err)
	}
	a.Ecosystem = inventory.Ecosystem(p.Type)
	if schemes[a.Ecosystem] == "" {
		return fmt.Errorf("%q: packages of type %q are not read", text, p.Type)
	}
	a.Name = p.Name
	switch a.Ecosystem {
	case inventory.Deb, inventory.APK:
		a.Distro.ID = p.Namespace
	case inventory.Maven:
		a.Name = p.Namespace + ":" + p.Name
	default:
		if p.Namespace != "" {
			a.Name = p.Namespace + "/" + p.Name
		}
	}
	if p.Version != "" {
		a.Constraint = append(a.Constraint, version.Term{Op: version.Equal, Version: p.Version})
	}
	return nil
}
