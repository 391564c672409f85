package wishlist

import (
	"cmp"
	"strings"
)

// compareVersions compares as people count: runs of digits as numbers, the rest
// as text, and what has a suffix after a dash or tilde (1.2-rc1) before what has
// none (1.2), but after a plus or dot later.
func compareVersions(a, b string) int {
	x, y := a, b
	for x != "" && y != "" {
		n, m := digits(x), digits(y)
		switch {
		case n > 0 && m > 0:
			if c := compareNumbers(x[:n], y[:m]); c != 0 {
				return c
			}
			x, y = x[n:], y[m:]
		case x[0] != y[0]:
			if p, q := weight(x), weight(y); p != q {
				return cmp.Compare(p, q)
			}
			return cmp.Compare(x[0], y[0])
		default:
			x, y = x[1:], y[1:]
		}
	}
	return cmp.Or(cmp.Compare(weight(x), weight(y)), cmp.Compare(a, b))
}

// weight orders what may follow equal beginnings.
func weight(s string) int {
	switch {
	case s == "":
		return 1
	case s[0] == '-' || s[0] == '~':
		return 0
	}
	return 2
}

func digits(s string) int {
	return len(s) - len(strings.TrimLeft(s, "0123456789"))
}

func compareNumbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}
