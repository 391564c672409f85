package rootfsprovider_test

import (
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rootstock-cf/rootstock/rootfsprovider"
)

// One at a time has the lock, although each removes its file when it is done:
// who got hold of a removed file has nothing.
func TestLockIsExclusive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var inside atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				err := rootfsprovider.LockAndRemove(path, func() {
					if n := inside.Add(1); n != 1 {
						t.Errorf("%d have the lock", n)
					}
					runtime.Gosched()
					inside.Add(-1)
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
