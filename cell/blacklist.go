package cell

import (
	"fmt"
	"io"
	"os"

	"github.com/rootstock-cf/rootstock/manifest"
)

const maxBlacklist = 1 << 20 // bytes

// blacklistOf reads a file each time it is asked: who withdraws a certificate
// does not want to restart cells. A file that is named and missing is an error,
// since an empty list would withdraw nothing and nobody would notice.
func blacklistOf(file string) func() (manifest.Blacklist, error) {
	if file == "" {
		return nil
	}
	return func() (manifest.Blacklist, error) {
		f, err := os.Open(file) // #nosec G304 -- the operator's
		if err != nil {
			return manifest.Blacklist{}, fmt.Errorf("%w; an empty file withdraws nothing", err)
		}
		defer f.Close() //nolint:errcheck // read only
		text, err := io.ReadAll(io.LimitReader(f, maxBlacklist+1))
		if err == nil && len(text) > maxBlacklist {
			err = fmt.Errorf("more than %d bytes", maxBlacklist)
		}
		if err != nil {
			return manifest.Blacklist{}, fmt.Errorf("%s: %w", file, err)
		}
		b, err := manifest.ParseBlacklist(text)
		if err != nil {
			return b, fmt.Errorf("%s: %w", file, err)
		}
		return b, nil
	}
}
