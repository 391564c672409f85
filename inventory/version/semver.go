package version

import (
	"cmp"
	"strings"
)

// semver is a version of semver.org 2.0.0, for npm and Go modules. What
// follows a plus sign is not part of the order. A leading "v" or "=" is read
// over; missing numbers are zeros, as in npm's loose form and in the versions of
// Go itself.
type semver struct {
	numbers [3]digits
	pre     []string
}

func parseSemver(s string) (ordered, bool) {
	s = strings.TrimPrefix(strings.TrimPrefix(s, "="), "v")
	s, build, has := strings.Cut(s, "+")
	if has && !dotted(build) {
		return nil, false
	}
	release, pre, has := strings.Cut(s, "-")
	var v semver
	if has {
		if !dotted(pre) {
			return nil, false
		}
		v.pre = strings.Split(pre, ".")
	}
	i := 0
	for part := range strings.SplitSeq(release, ".") {
		if i == len(v.numbers) || !allDigits(part) {
			return nil, false
		}
		v.numbers[i] = number(part)
		i++
	}
	return v, true
}

// dotted reports whether s is identifiers between dots.
func dotted(s string) bool {
	for part := range strings.SplitSeq(s, ".") {
		if part == "" || span(part, func(c byte) bool { return isDigit(c) || isLetter(c) || c == '-' }) != len(part) {
			return false
		}
	}
	return true
}

func (v semver) compare(o ordered) int {
	w := o.(semver)
	for i := range v.numbers {
		if c := v.numbers[i].compare(w.numbers[i]); c != 0 {
			return c
		}
	}
	if (v.pre == nil) != (w.pre == nil) {
		if v.pre != nil {
			return -1
		}
		return 1
	}
	for i := range min(len(v.pre), len(w.pre)) {
		if c := semverIdentifier(v.pre[i], w.pre[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(v.pre), len(w.pre))
}

// semverIdentifier puts numbers before words.
func semverIdentifier(a, b string) int {
	x, y := allDigits(a), allDigits(b)
	switch {
	case x && y:
		return number(a).compare(number(b))
	case x:
		return -1
	case y:
		return 1
	}
	return strings.Compare(a, b)
}
