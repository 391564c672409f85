package client_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/object"
)

// shelf publishes a directory of n files, whose contents it returns.
func shelf(t *testing.T, n int) (*testrepo.Repo, []string) {
	t.Helper()
	repo := testrepo.New(t, testrepo.Options{})
	tree, texts := testrepo.Tree{}, make([]string, n)
	for i := range n {
		texts[i] = strings.Repeat(fmt.Sprintf("file %d\n", i), 100)
		tree[shelved(i)] = testrepo.Text(texts[i])
	}
	repo.Publish(tree)
	return repo, texts
}

func shelved(i int) string { return fmt.Sprintf("/shelf/%03d", i) }

func hits(t *testing.T, repo *testrepo.Repo, text string) int {
	t.Helper()
	return repo.Hits(object.Path(object.SHAKE128.Sum(mustEncode(t, []byte(text))), object.Bulk))
}

// arrived waits until a file is asked for that nobody has read.
func arrived(t *testing.T, repo *testrepo.Repo, text string) {
	t.Helper()
	for range 2000 {
		if hits(t, repo, text) > 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("what comes next was not fetched")
}

// Who reads one file after the other finds the next ones there; each is fetched
// once.
func TestAheadOfAWalk(t *testing.T) {
	repo, texts := shelf(t, 40)
	r := openRepository(t, clientOf(t, repo))
	for i := range 10 {
		if got := readPath(t, r, shelved(i)); got != texts[i] {
			t.Fatalf("file %d: %q", i, got)
		}
	}
	arrived(t, repo, texts[12])
	if hits(t, repo, texts[30]) != 0 {
		t.Error("more was fetched than had been read")
	}
	for i := range texts {
		if got := readPath(t, r, shelved(i)); got != texts[i] {
			t.Errorf("file %d: %q", i, got)
		}
		if n := hits(t, repo, texts[i]); n != 1 {
			t.Errorf("file %d was fetched %d times", i, n)
		}
	}
}

// Who picks files here and there is not followed.
func TestNotAheadOfPicking(t *testing.T) {
	repo, texts := shelf(t, 100)
	o := clientOf(t, repo)
	r, err := client.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for i := 90; i >= 0; i -= 10 {
		readPath(t, r, shelved(i))
	}
	r.Close() // waits for what is on its way
	for i, text := range texts {
		if i%10 != 0 && hits(t, repo, text) != 0 {
			t.Errorf("file %d was fetched", i)
		}
	}
}

// Negative turns it off, and a bound in bytes is kept.
func TestAheadIsBounded(t *testing.T) {
	for _, tc := range []struct{ ahead, atMost int64 }{{-1, 0}, {1, 1}} {
		repo, _ := shelf(t, 40)
		var open, most atomic.Int64
		repo.Fault("data/", func(w http.ResponseWriter, req *http.Request) {
			most.Store(max(most.Load(), open.Add(1)))
			defer open.Add(-1)
			w.Write(repo.Get(strings.TrimPrefix(req.URL.Path, "/"))) //nolint:errcheck // a client that left
		})
		o := clientOf(t, repo)
		o.Ahead = tc.ahead
		r := openRepository(t, o)
		most.Store(0)
		for i := range 20 {
			readPath(t, r, shelved(i))
		}
		if n := r.Status().Ahead; tc.ahead < 0 && n != 0 {
			t.Errorf("%d files ahead though it is off", n)
		}
		if n := most.Load() - 1; n > tc.atMost {
			t.Errorf("bound of %d bytes: %d requests beside the reader's", tc.ahead, n)
		}
	}
}

// What cannot be fetched ahead is no failure until it is read.
func TestAheadFails(t *testing.T) {
	repo, texts := shelf(t, 30)
	name := object.Path(object.SHAKE128.Sum(mustEncode(t, []byte(texts[12]))), object.Bulk)
	keep := repo.Get(name)
	repo.Remove(name)
	r := openRepository(t, clientOf(t, repo))
	for i := range 10 {
		readPath(t, r, shelved(i))
	}
	arrived(t, repo, texts[12])
	if n := r.Status().IOErrors; n != 0 {
		t.Errorf("%d failures nobody has seen are counted", n)
	}
	repo.Put(name, keep)
	n := find(t, r, shelved(12))
	for range 1000 { // one may still share the attempt that failed
		got, err := content(t.Context(), r, n)
		if err == nil && got == texts[12] {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error("does not read though it is there again")
}

// The next chunk of a large file is fetched when the one before is half read.
func TestAheadOfChunks(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	data := pattern(40_000)
	repo.Publish(testrepo.Tree{"/cut": testrepo.Chunks(data, 10_000)})
	r := openRepository(t, clientOf(t, repo))
	c, err := r.Open(t.Context(), find(t, r, "/cut"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // read only
	b := make([]byte, 100)
	if _, err := c.ReadAt(t.Context(), b, 100); err != nil {
		t.Fatal(err)
	}
	before := repo.Requests("data/")
	if _, err := c.ReadAt(t.Context(), b, 6000); err != nil {
		t.Fatal(err)
	}
	for range 2000 {
		if r.Status().Ahead > 0 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if n := repo.Requests("data/") - before; n != 1 {
		t.Errorf("%d chunks were fetched", n)
	}
	if _, err := c.ReadAt(t.Context(), b, 12_000); err != nil || string(b) != string(data[12_000:12_100]) {
		t.Errorf("second chunk: %v", err)
	}
	if n := repo.Requests("data/") - before; n != 1 {
		t.Errorf("%d chunks were fetched", n)
	}
}
