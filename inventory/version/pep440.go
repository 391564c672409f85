package version

import (
	"cmp"
	"regexp"
	"strings"
)

// pep is a version of Python's PEP 440.
type pep struct {
	epoch   digits
	release []digits // without trailing zeros
	pre     string   // "a", "b", "rc" or none
	preN    digits
	post    bool
	postN   digits
	dev     bool
	devN    digits
	local   []string // nil for none
}

// pepForm is PEP 440's appendix B, in lower case.
var pepForm = regexp.MustCompile(`^v?(?:([0-9]+)!)?([0-9]+(?:\.[0-9]+)*)` +
	`(?:[-_.]?(alpha|beta|preview|pre|rc|a|b|c)[-_.]?([0-9]*))?` +
	`(?:-([0-9]+)|[-_.]?(post|rev|r)[-_.]?([0-9]*))?` +
	`(?:[-_.]?(dev)[-_.]?([0-9]*))?` +
	`(?:\+([a-z0-9]+(?:[-_.][a-z0-9]+)*))?$`)

// pepPre maps spellings of a pre-release to the one that sorts.
var pepPre = map[string]string{
	"a": "a", "alpha": "a", "b": "b", "beta": "b", "c": "rc", "rc": "rc", "pre": "rc", "preview": "rc",
}

func parsePEP(s string) (ordered, bool) {
	m := pepForm.FindStringSubmatch(strings.ToLower(strings.TrimSpace(s)))
	if m == nil {
		return nil, false
	}
	v := pep{epoch: number(m[1]), pre: pepPre[m[3]], preN: number(m[4])}
	for part := range strings.SplitSeq(m[2], ".") {
		v.release = append(v.release, number(part))
	}
	for len(v.release) > 0 && v.release[len(v.release)-1].isZero() {
		v.release = v.release[:len(v.release)-1]
	}
	v.post, v.postN = m[5] != "" || m[6] != "", number(m[5]+m[7])
	v.dev, v.devN = m[8] != "", number(m[9])
	if m[10] != "" {
		v.local = strings.FieldsFunc(m[10], func(r rune) bool { return r == '-' || r == '_' || r == '.' })
	}
	return v, true
}

func (v pep) compare(o ordered) int {
	w := o.(pep)
	if c := v.epoch.compare(w.epoch); c != 0 {
		return c
	}
	for i := range max(len(v.release), len(w.release)) {
		if c := at(v.release, i).compare(at(w.release, i)); c != 0 {
			return c
		}
	}
	return cmp.Or(
		cmp.Compare(v.phase(), w.phase()),
		v.preN.compare(w.preN),
		cmp.Compare(rank(v.post), rank(w.post)), v.postN.compare(w.postN),
		cmp.Compare(rank(!v.dev), rank(!w.dev)), v.devN.compare(w.devN),
		compareLocal(v.local, w.local),
	)
}

// phase orders a release that is only in development before its pre-releases,
// and those before the rest.
func (v pep) phase() int {
	switch {
	case v.pre == "" && !v.post && v.dev:
		return 0
	case v.pre == "":
		return 4
	}
	return map[string]int{"a": 1, "b": 2, "rc": 3}[v.pre]
}

// compareLocal puts none first and words before numbers.
func compareLocal(a, b []string) int {
	for i := range min(len(a), len(b)) {
		x, y := allDigits(a[i]), allDigits(b[i])
		c := cmp.Compare(rank(x), rank(y))
		if c == 0 && x {
			c = number(a[i]).compare(number(b[i]))
		} else if c == 0 {
			c = strings.Compare(a[i], b[i])
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

func at(list []digits, i int) digits {
	if i < len(list) {
		return list[i]
	}
	return ""
}

func rank(b bool) int {
	if b {
		return 1
	}
	return 0
}
