package version

import (
	"cmp"
	"strings"
)

// dpkg is [epoch:]upstream[-revision], ordered as deb-version(7) says.
type dpkg struct {
	epoch              digits
	upstream, revision string
}

func parseDpkg(s string) (ordered, bool) {
	var v dpkg
	if epoch, rest, ok := strings.Cut(s, ":"); ok {
		if !allDigits(epoch) {
			return nil, false
		}
		if v.epoch = number(epoch); len(v.epoch) > 10 {
			return nil, false // dpkg has it in an int
		}
		s = rest
	}
	v.upstream = s
	if i := strings.LastIndexByte(s, '-'); i >= 0 {
		v.upstream, v.revision = s[:i], s[i+1:]
		if v.revision == "" {
			return nil, false
		}
	}
	if v.upstream == "" || !isDigit(v.upstream[0]) {
		return nil, false
	}
	ok := span(v.upstream, func(c byte) bool { return isDigit(c) || isLetter(c) || strings.IndexByte("-+.~:", c) >= 0 }) == len(v.upstream) &&
		span(v.revision, func(c byte) bool { return isDigit(c) || isLetter(c) || strings.IndexByte("+.~", c) >= 0 }) == len(v.revision)
	return v, ok
}

func (v dpkg) compare(o ordered) int {
	w := o.(dpkg)
	return cmp.Or(v.epoch.compare(w.epoch), dpkgParts(v.upstream, w.upstream), dpkgParts(v.revision, w.revision))
}

// dpkgParts compares runs of other bytes and of digits in turn.
func dpkgParts(a, b string) int {
	notDigit := func(c byte) bool { return !isDigit(c) }
	for a != "" || b != "" {
		i, j := span(a, notDigit), span(b, notDigit)
		if c := dpkgText(a[:i], b[:j]); c != 0 {
			return c
		}
		a, b = a[i:], b[j:]
		i, j = span(a, isDigit), span(b, isDigit)
		if c := number(a[:i]).compare(number(b[:j])); c != 0 {
			return c
		}
		a, b = a[i:], b[j:]
	}
	return 0
}

func dpkgText(a, b string) int {
	for i := range max(len(a), len(b)) {
		if c := cmp.Compare(dpkgRank(a, i), dpkgRank(b, i)); c != 0 {
			return c
		}
	}
	return 0
}

// dpkgRank puts the tilde before the end, the end before letters, and letters
// before all else.
func dpkgRank(s string, i int) int {
	switch {
	case i >= len(s):
		return 0
	case s[i] == '~':
		return -1
	case isLetter(s[i]):
		return int(s[i])
	}
	return int(s[i]) + 256
}
