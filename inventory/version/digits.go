package version

import (
	"cmp"
	"strings"
)

// digits is a number of any length without leading zeros. Versions hold dates
// and hashes longer than any machine word.
type digits string

func number(s string) digits { return digits(strings.TrimLeft(s, "0")) }

func (d digits) compare(e digits) int {
	if c := cmp.Compare(len(d), len(e)); c != 0 {
		return c
	}
	return strings.Compare(string(d), string(e))
}

func (d digits) isZero() bool { return d == "" }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// span returns how many leading bytes of s satisfy is.
func span(s string, is func(byte) bool) int {
	n := 0
	for n < len(s) && is(s[n]) {
		n++
	}
	return n
}

func allDigits(s string) bool { return s != "" && span(s, isDigit) == len(s) }
