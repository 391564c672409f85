package version

import (
	"cmp"
	"strings"
)

// apk is Alpine's version: number{.number}[letter]{_suffix[number]}[~hash][-r#],
// as a list of tokens. Where two lists part, the kinds of their next tokens
// decide, so the list is what apk's own comparison walks along.
type apk []apkToken

type apkToken struct {
	rank int // of kinds where two versions part; greater is newer
	num  digits
	text string // of a number that begins with zero, a letter or a hash
}

// Ranks. A suffix that says "before the release" comes before the end.
const (
	apkBefore = iota // alpha to rc
	apkEnd
	apkRevision
	apkHash
	apkSuffixNumber
	apkAfter // cvs to p
	apkLetter
	apkNumber
)

var (
	apkPre  = []string{"alpha", "beta", "pre", "rc"}
	apkPost = []string{"cvs", "svn", "git", "hg", "p"}
)

func parseAPK(s string) (ordered, bool) {
	var v apk
	n := span(s, isDigit)
	if n == 0 {
		return nil, false
	}
	v, s = append(v, apkToken{rank: apkNumber, num: number(s[:n])}), s[n:]
	for strings.HasPrefix(s, ".") {
		if n = span(s[1:], isDigit); n == 0 {
			return nil, false
		}
		t := apkToken{rank: apkNumber, num: number(s[1 : 1+n])}
		if s[1] == '0' {
			t.num, t.text = "", s[1:1+n] // a fraction: 1.01 is older than 1.1
		}
		v, s = append(v, t), s[1+n:]
	}
	if s != "" && s[0] >= 'a' && s[0] <= 'z' {
		v, s = append(v, apkToken{rank: apkLetter, text: s[:1]}), s[1:]
	}
	for strings.HasPrefix(s, "_") {
		n = span(s[1:], isLetter)
		t, ok := apkSuffix(s[1 : 1+n])
		if !ok {
			return nil, false
		}
		v, s = append(v, t), s[1+n:]
		if n = span(s, isDigit); n > 0 {
			v, s = append(v, apkToken{rank: apkSuffixNumber, num: number(s[:n])}), s[n:]
		}
	}
	if strings.HasPrefix(s, "~") {
		n = span(s[1:], func(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'f' })
		if n == 0 {
			return nil, false
		}
		v, s = append(v, apkToken{rank: apkHash, text: s[1 : 1+n]}), s[1+n:]
	}
	if r, ok := strings.CutPrefix(s, "-r"); ok {
		if !allDigits(r) {
			return nil, false
		}
		v, s = append(v, apkToken{rank: apkRevision, num: number(r)}), ""
	}
	return v, s == ""
}

func apkSuffix(name string) (apkToken, bool) {
	for rank, names := range map[int][]string{apkBefore: apkPre, apkAfter: apkPost} {
		for i, known := range names {
			if name == known {
				return apkToken{rank: rank, num: digits('1' + byte(i))}, true
			}
		}
	}
	return apkToken{}, false
}

func (v apk) compare(o ordered) int {
	w := o.(apk)
	for i := range max(len(v), len(w)) {
		if c := v.at(i).compare(w.at(i)); c != 0 {
			return c
		}
	}
	return 0
}

func (v apk) at(i int) apkToken {
	if i < len(v) {
		return v[i]
	}
	return apkToken{rank: apkEnd}
}

func (t apkToken) compare(u apkToken) int {
	if c := cmp.Compare(t.rank, u.rank); c != 0 {
		return c
	}
	if t.rank == apkNumber && (t.text == "") != (u.text == "") {
		if t.text != "" {
			return -1 // '0' sorts before any other first digit
		}
		return 1
	}
	return cmp.Or(t.num.compare(u.num), strings.Compare(t.text, u.text))
}
