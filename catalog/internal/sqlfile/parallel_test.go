package sqlfile_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/rootstock-cf/rootstock/catalog/internal/sqlfile"
)

// Files written beside each other share SQLite's memory: what one connection
// writes where it should not turns up in another's rows. Every row is written
// several times, so a key that was changed on its way leaves one row too many.
func TestWritersBesideEachOther(t *testing.T) {
	const (
		writers = 2
		files   = 200
		keys    = 48
	)
	dir := t.TempDir()
	var g errgroup.Group
	for w := range writers {
		g.Go(func() error {
			for f := range files {
				if err := write(filepath.Join(dir, fmt.Sprintf("%d-%d", w, f)), keys); err != nil {
					return fmt.Errorf("writer %d, file %d: %w", w, f, err)
				}
			}
			return nil
		})
	}
	// Opening is where the library hands over the most memory.
	path, done := create(t), make(chan struct{})
	var openers errgroup.Group
	for range writers {
		openers.Go(func() error {
			for {
				select {
				case <-done:
					return nil
				default:
				}
				db, err := sqlfile.OpenReadOnly(path, errInvalid)
				if err == nil {
					err = db.Close()
				}
				if err != nil {
					return err
				}
			}
		})
	}
	err := g.Wait()
	close(done)
	must(t, errors.Join(err, openers.Wait()))
}

func write(path string, keys int) error {
	db, err := sqlfile.Create(path, sqlfile.Properties, errInvalid)
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // committed, or failed already
	for round := range 4 {
		for k := range keys {
			if err := db.SetProperty(fmt.Sprintf("property-%d", k), fmt.Sprint(round)); err != nil {
				return err
			}
		}
	}
	props, err := db.Properties()
	if err != nil {
		return err
	}
	if len(props) != keys {
		return fmt.Errorf("%d properties where %d were written: %q", len(props), keys, props)
	}
	return db.Commit()
}
