package version

import (
	"cmp"
	"slices"
	"strings"
)

// maven is a Maven version: nested lists of numbers and words, as Maven's
// published rules for version order build them. A list is what follows a
// hyphen or a change between digits and letters.
type maven struct{ items []mavenItem }

// mavenItem is a number, a word or a list.
type mavenItem struct {
	kind mavenKind
	num  digits
	word string // as it sorts among words
	list []mavenItem
}

type mavenKind uint8

const (
	mavenNumber mavenKind = iota
	mavenWord
	mavenList
)

// mavenRelease is how the release itself sorts among words; unknown words come
// after the known ones, alphabetically.
const mavenRelease = "5"

var mavenWords = map[string]string{
	"alpha": "0", "beta": "1", "milestone": "2", "rc": "3", "cr": "3", "snapshot": "4",
	"": mavenRelease, "ga": mavenRelease, "final": mavenRelease, "release": mavenRelease, "sp": "6",
}

func parseMaven(s string) (ordered, bool) {
	if s == "" || span(s, func(c byte) bool { return c > ' ' && c < 0x7f }) != len(s) {
		return nil, false
	}
	p := mavenParser{text: strings.ToLower(s)}
	return maven{p.list()}, true
}

// mavenParser reads a version from left to right. Whatever opens a list, the
// rest of the version is in it.
type mavenParser struct {
	text string
	at   int
}

func (p *mavenParser) list() []mavenItem {
	var all []mavenItem
	for {
		rest := p.text[p.at:]
		digit := rest != "" && isDigit(rest[0])
		n := span(rest, func(c byte) bool { return c != '.' && c != '-' && isDigit(c) == digit })
		next := byte(0)
		if p.at+n < len(p.text) {
			next = p.text[p.at+n]
		}
		if n > 0 && !digit && len(all) > 0 && (next == 0 || isDigit(next)) {
			return mavenTrim(append(all, mavenItem{kind: mavenList, list: p.list()})) // 1.x means 1-x
		}
		p.at += n
		switch {
		case n > 0 && digit:
			all = append(all, mavenItem{num: number(rest[:n])})
		case n > 0:
			all = append(all, mavenItem{kind: mavenWord, word: mavenWordKey(rest[:n], isDigit(next))})
		case next != 0:
			all = append(all, mavenItem{}) // nothing between two separators is a zero
		}
		if next == '.' {
			p.at++
			continue
		}
		if next != 0 {
			if next == '-' {
				p.at++
			}
			all = append(all, mavenItem{kind: mavenList, list: p.list()})
		}
		return mavenTrim(all)
	}
}

func mavenWordKey(word string, beforeDigit bool) string {
	if beforeDigit {
		switch word {
		case "a":
			word = "alpha"
		case "b":
			word = "beta"
		case "m":
			word = "milestone"
		}
	}
	if key, ok := mavenWords[word]; ok {
		return key
	}
	return "7-" + word
}

// mavenTrim drops what means nothing before the end or before a list.
func mavenTrim(all []mavenItem) []mavenItem {
	for i := len(all) - 1; i >= 0; i-- {
		switch {
		case all[i].isNull():
			all = slices.Delete(all, i, i+1)
		case all[i].kind != mavenList:
			return all
		}
	}
	return all
}

func (i mavenItem) isNull() bool {
	switch i.kind {
	case mavenNumber:
		return i.num.isZero()
	case mavenWord:
		return i.word == mavenRelease
	}
	return len(i.list) == 0
}

func (v maven) compare(o ordered) int { return mavenLists(v.items, o.(maven).items) }

func mavenLists(a, b []mavenItem) int {
	for i := range max(len(a), len(b)) {
		c := 0
		switch {
		case i >= len(a):
			c = -b[i].toNothing()
		case i >= len(b):
			c = a[i].toNothing()
		default:
			c = a[i].compare(b[i])
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

// compare puts words before lists before numbers.
func (i mavenItem) compare(j mavenItem) int {
	order := [...]int{mavenNumber: 2, mavenWord: 0, mavenList: 1}
	if c := cmp.Compare(order[i.kind], order[j.kind]); c != 0 {
		return c
	}
	return cmp.Or(i.num.compare(j.num), strings.Compare(i.word, j.word), mavenLists(i.list, j.list))
}

// toNothing compares with the end of a version.
func (i mavenItem) toNothing() int {
	switch i.kind {
	case mavenNumber:
		return rank(!i.num.isZero())
	case mavenWord:
		return strings.Compare(i.word, mavenRelease)
	}
	for _, item := range i.list {
		if c := item.toNothing(); c != 0 {
			return c
		}
	}
	return 0
}
