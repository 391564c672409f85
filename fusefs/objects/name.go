package objects

import (
	"encoding/hex"

	"github.com/rootstock-cf/rootstock/object"
)

// A content's name in its directory has the digits that the directory's does
// not.
const nameDigits = 2 * (len(object.ContentID{}) - 1)

func dirName(xx byte) string { return hex.EncodeToString([]byte{xx}) }

func parseDir(name string) (xx byte, ok bool) {
	var b [1]byte
	ok = parse(b[:], name)
	return b[0], ok
}

func parseName(xx byte, name string) (id object.ContentID, ok bool) {
	id[0] = xx
	return id, parse(id[1:], name)
}

// parse decodes digits, of which there are exactly enough for dst. Capital ones
// are no digits: a content has one name.
func parse(dst []byte, digits string) bool {
	if len(digits) != 2*len(dst) {
		return false
	}
	for i := range dst {
		high, low := digit(digits[2*i]), digit(digits[2*i+1])
		if high|low > 15 {
			return false
		}
		dst[i] = high<<4 | low
	}
	return true
}

func digit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 16
}
