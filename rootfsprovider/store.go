package rootfsprovider

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// store is the directory layout. Everything that belongs to a handle is found
// by the handle alone, so that cleaning up needs no record.
//
//	containers/<handle>/{upper,work,rootfs,lower}
//	records/<handle>.json
//	locks/<handle>
//	releases/<handle>      the daemon still has to be told that it is gone
//	delegated/<handle>     another plugin made it, or may have
//	pins/<handle>/<pin>    further pins that the daemon holds for it
//	cas/<key>              layers of trusted certificates, shared
//	images/, projects/     the quota's
type store string

func (s store) container(handle string) string { return filepath.Join(string(s), "containers", handle) }

func (s store) record(handle string) string {
	return filepath.Join(string(s), "records", handle+".json")
}
func (s store) lock(handle string) string { return filepath.Join(string(s), "locks", handle) }
func (s store) delegated(handle string) string {
	return filepath.Join(string(s), "delegated", handle)
}
func (s store) pins(handle string) string    { return filepath.Join(string(s), "pins", handle) }
func (s store) pending(handle string) string { return filepath.Join(string(s), "releases", handle) }

// init makes the directories. A container's processes have to get through to
// their root, and no further.
func (s store) init() error {
	for _, d := range []struct {
		name string
		mode os.FileMode
	}{{"containers", 0o711}, {"records", 0o700}, {"locks", 0o700}, {"releases", 0o700}, {"delegated", 0o700}, {"pins", 0o700}} {
		path := filepath.Join(string(s), d.name)
		if _, err := os.Lstat(path); err == nil {
			continue
		}
		if err := s.make(); err != nil {
			return err
		}
		if err := os.Mkdir(path, d.mode); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("store: %w", err)
		}
	}
	return nil
}

// make makes the store's own directory.
func (s store) make() error {
	if _, err := os.Stat(string(s)); err == nil {
		return nil
	}
	if err := os.MkdirAll(string(s), 0o711); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if err := os.Chmod(string(s), 0o711); err != nil { // whatever the umask is; #nosec G302 -- see init
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// handles returns the handles that the store holds anything of.
func (s store) handles() ([]string, error) {
	seen := map[string]bool{}
	var all []string
	for _, dir := range []string{"containers", "records", "releases", "delegated", "pins", "locks"} {
		entries, err := os.ReadDir(filepath.Join(string(s), dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("store: %w", err)
		}
		for _, e := range entries {
			h := e.Name()
			if dir == "records" {
				h = strings.TrimSuffix(h, ".json")
			}
			if !seen[h] && !strings.HasPrefix(h, ".") {
				seen[h] = true
				all = append(all, h)
			}
		}
	}
	return all, nil
}

// syncDir makes a name durable that was made in a directory.
func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	defer dir.Close() //nolint:errcheck // synced before
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}
