package deflate_test

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// corpus calls visit with files of this machine until they are budget bytes,
// an equal share from each tree that has as much. Which ones depends on nothing but the machine.
func corpus(tb testing.TB, budget int64, visit func(path string, content []byte)) {
	tb.Helper()
	trees := []string{"/etc", "/usr/bin", "/usr/lib", "/usr/share"}
	seen := int64(0)
	for i, tree := range trees {
		var paths []string
		err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				paths = append(paths, path)
			}
			if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		})
		if err != nil {
			tb.Fatal(err)
		}
		r := rand.New(rand.NewPCG(1, 1))
		r.Shuffle(len(paths), func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
		until := seen + (budget-seen)/int64(len(trees)-i)
		for _, path := range paths {
			if seen >= until {
				break
			}
			content, err := readSome(path, 8<<20)
			if err != nil {
				continue // gone, or not for us
			}
			seen += int64(len(content))
			visit(path, content)
		}
	}
	tb.Logf("%d MB of files", seen>>20)
	if seen < budget/2 {
		tb.Skipf("this machine has but %d bytes of files in %v: NOT COMPARED on %d", seen, trees, budget)
	}
}

func readSome(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

func TestFilesAgainstInstalled(t *testing.T) {
	budget := int64(12 << 20)
	if os.Getenv("ROOTSTOCK_LONG") != "" {
		budget = 100 << 20
	}
	ref := installed(t)
	corpus(t, budget, func(path string, content []byte) { compare(t, ref, path, content) })
}
