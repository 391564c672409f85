package rootfsprovider

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/rootstock-cf/rootstock/cell/control"
)

// maxLayers bounds what an overlay may be made of; the kernel's own bound is
// 500.
const maxLayers = 128

// checkLower looks at the daemon's answer before it is mounted: a daemon of
// another release, or one that is confused, must not mount something else.
func checkLower(l control.Lower) error {
	if len(l.Lower) == 0 {
		return errors.New("the daemon named no lower layer")
	}
	if n := len(l.Lower) + len(l.Data); n > maxLayers {
		return fmt.Errorf("the daemon named %d layers, more than %d", n, maxLayers)
	}
	if n := len(l.Mapped); n > 0 && n != len(l.Lower) {
		return fmt.Errorf("the daemon named %d layers, and %d with mapped ids", len(l.Lower), n)
	}
	for _, dirs := range [][]string{l.Lower, l.Data, l.Mapped} {
		for _, dir := range dirs {
			if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir || dir == "/" {
				return fmt.Errorf("the daemon named the layer %q, which is not a clean absolute path", dir)
			}
		}
	}
	for _, o := range l.Options {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "metacopy", "redirect_dir", "xino", "index", "nfs_export", "uuid", "verity":
			if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r < 'a' || r > 'z' }) {
				return fmt.Errorf("the daemon asks for the overlay option %q, whose value is not a word", o)
			}
		default:
			return fmt.Errorf("the daemon asks for the overlay option %q, which this plugin does not know; are both of the same release?", o)
		}
	}
	if l.Bytes < 0 {
		return fmt.Errorf("the daemon says the image has %d bytes", l.Bytes)
	}
	return nil
}
