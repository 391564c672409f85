package version

import (
	"cmp"
	"strings"
)

// gem is a version of Ruby's gems: numbers and words, a word meaning "before
// the release".
type gem []gemSegment

type gemSegment struct {
	word string // empty for a number
	num  digits
}

func parseGem(s string) (ordered, bool) {
	s = strings.TrimSpace(s)
	for part := range strings.SplitSeq(strings.ReplaceAll(s, "-", "."), ".") {
		if span(part, func(c byte) bool { return isDigit(c) || isLetter(c) }) != len(part) || part == "" {
			return nil, false
		}
	}
	if !isDigit(s[0]) {
		return nil, false
	}
	return segments(strings.ReplaceAll(s, "-", ".pre.")), true
}

// parseLoose reads anything with a number in front in gem's order.
func parseLoose(s string) (ordered, bool) {
	s = strings.TrimPrefix(strings.TrimPrefix(s, "v"), "go")
	if s == "" || !isDigit(s[0]) {
		return nil, false
	}
	return segments(s), true
}

// segments cuts s into numbers and words, whatever stands between, and drops
// the zeros that end its release and those that end it.
func segments(s string) gem {
	var v gem
	for s != "" {
		if n := span(s, isDigit); n > 0 {
			v, s = append(v, gemSegment{num: number(s[:n])}), s[n:]
		} else if n := span(s, isLetter); n > 0 {
			v, s = append(v, gemSegment{word: s[:n]}), s[n:]
		} else {
			s = s[1:]
		}
	}
	release := 0
	for release < len(v) && v[release].word == "" {
		release++
	}
	head, tail := trimZeros(v[:release]), trimZeros(v[release:])
	return append(head[:len(head):len(head)], tail...)
}

func trimZeros(v gem) gem {
	for len(v) > 0 && v[len(v)-1] == (gemSegment{}) {
		v = v[:len(v)-1]
	}
	return v
}

func (v gem) compare(o ordered) int {
	w := o.(gem)
	for i := range max(len(v), len(w)) {
		var x, y gemSegment // beyond its end a version is all zeros
		if i < len(v) {
			x = v[i]
		}
		if i < len(w) {
			y = w[i]
		}
		c := cmp.Compare(rank(x.word == ""), rank(y.word == ""))
		if c = cmp.Or(c, x.num.compare(y.num), strings.Compare(x.word, y.word)); c != 0 {
			return c
		}
	}
	return 0
}
