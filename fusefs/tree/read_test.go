package tree_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/rootstock-cf/rootstock/fusefs/tree"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/fusefs/viewtest"
)

// look returns the id of a file in the root of f.
func look(t *testing.T, f *tree.FS, name string) uint64 {
	t.Helper()
	var out fuse.EntryOut
	if err := f.Lookup(t.Context(), 1, name, &out); err != nil || out.NodeId == 0 {
		t.Fatalf("lookup %s: node %d, %v", name, out.NodeId, err)
	}
	return out.NodeId
}

func TestContentsStayOpenUpToALimit(t *testing.T) {
	v := viewtest.New()
	for i := range 10 {
		v.Add(fmt.Sprintf("/%d", i), viewtest.File{Data: pattern(10)})
	}
	f := tree.New(v, tree.Options{OpenContents: 3})
	read := func(i int) {
		t.Helper()
		p := make([]byte, 10)
		if n, err := f.ReadAt(t.Context(), look(t, f, fmt.Sprint(i)), p, 0); n != 10 || err != nil {
			t.Errorf("read %d: %d, %v", i, n, err)
		}
	}
	for i := range 10 {
		read(i)
	}
	if n := v.OpenContents(); n != 3 {
		t.Errorf("%d contents open, want 3", n)
	}
	read(7) // the oldest; now 8 is
	opened := v.Opened()
	read(0)
	read(7)
	if n := v.Opened() - opened; n != 1 {
		t.Errorf("%d opens, want 1: the least recently used was to go", n)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if n := v.OpenContents(); n != 0 {
		t.Errorf("%d contents open after close", n)
	}
	if _, err := f.ReadAt(t.Context(), look(t, f, "0"), make([]byte, 1), 0); err == nil {
		t.Error("read after close succeeded")
	}
}

// With a single place, each read displaces another's content, and a read in
// progress must not notice. The view fails reads of closed contents.
func TestContentsAreNotClosedUnderAReader(t *testing.T) {
	const files = 8
	v := viewtest.New()
	for i := range files {
		v.Add(fmt.Sprintf("/%d", i), viewtest.File{Data: pattern(1000 + i)})
	}
	f := tree.New(v, tree.Options{OpenContents: 1})
	ids := make([]uint64, files)
	for i := range ids {
		ids[i] = look(t, f, fmt.Sprint(i))
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			p := make([]byte, 2000)
			for k := range 500 {
				i := (g + k) % files
				ctx := t.Context()
				if k%3 == 0 {
					ctx = done // as the connection asks first
				}
				n, err := f.ReadAt(ctx, ids[i], p, 0)
				if errors.Is(err, context.Canceled) {
					continue
				}
				if err != nil || !bytes.Equal(p[:n], pattern(1000+i)) {
					t.Errorf("file %d: %d bytes, %v", i, n, err)
				}
			}
		})
	}
	wg.Wait()
	if n := v.OpenContents(); n > 1 {
		t.Errorf("%d contents open, want 1 at most", n)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if n := v.OpenContents(); n != 0 {
		t.Errorf("%d contents leaked", n)
	}
}

// One open serves all who wait for it, but whoever gives up takes no one along.
func TestOpenIsShared(t *testing.T) { synctest.Test(t, openIsShared) }

func openIsShared(t *testing.T) {
	v := viewtest.New()
	v.Add("/f", viewtest.File{Data: pattern(100)})
	f := tree.New(v, tree.Options{})
	defer f.Close()
	node := look(t, f, "f")

	var opens atomic.Int32
	opening := make(chan struct{}, 10)
	goOn := make(chan struct{})
	v.SetHook(func(ctx context.Context, op viewtest.Op, _ view.Node) error {
		if op != viewtest.OpOpen {
			return nil
		}
		opens.Add(1)
		opening <- struct{}{}
		select {
		case <-goOn:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("fetch: %w", ctx.Err())
		}
	})
	first, giveUp := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := f.ReadAt(first, node, make([]byte, 1), 0); !errors.Is(err, context.Canceled) {
			t.Errorf("the one who gave up: %v", err)
		}
	})
	<-opening
	for range 5 {
		wg.Go(func() {
			if n, err := f.ReadAt(t.Context(), node, make([]byte, 100), 0); n != 100 || err != nil {
				t.Errorf("one who waited: %d, %v", n, err)
			}
		})
	}
	synctest.Wait() // until they do
	giveUp()
	<-opening // one of the others tries itself
	close(goOn)
	wg.Wait()
	if n := opens.Load(); n != 2 {
		t.Errorf("opened %d times, want 2", n)
	}
}

// lying is a view whose contents are not what their attributes say.
type lying struct {
	*viewtest.Tree
	content view.Content
}

func (l lying) Open(context.Context, view.Node) (view.Content, error) { return l.content, nil }

type content struct {
	size   int64
	readAt func(p []byte, off int64) (int, error)
	closed atomic.Int32
}

func (c *content) Size() int64  { return c.size }
func (c *content) Close() error { c.closed.Add(1); return nil }
func (c *content) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return c.readAt(p, off)
}

func TestContentsThatAreNotWhatTheySay(t *testing.T) {
	short := func(p []byte, off int64) (int, error) {
		if off >= 50 {
			return 0, io.EOF
		}
		return min(len(p), int(50-off)), io.EOF
	}
	trickle := func(p []byte, _ int64) (int, error) { return min(len(p), 7), nil }
	for name, c := range map[string]struct {
		content *content
		good    bool
	}{
		"shorter than its attributes": {&content{size: 99, readAt: trickle}, false},
		"longer than its attributes":  {&content{size: 101, readAt: trickle}, false},
		"ends early":                  {&content{size: 100, readAt: short}, false},
		"makes no progress":           {&content{size: 100, readAt: func([]byte, int64) (int, error) { return 0, nil }}, false},
		"comes in pieces":             {&content{size: 100, readAt: trickle}, true},
	} {
		t.Run(name, func(t *testing.T) {
			v := viewtest.New()
			v.Add("/f", viewtest.File{Data: pattern(100)})
			f := tree.New(lying{v, c.content}, tree.Options{})
			n, err := f.ReadAt(t.Context(), look(t, f, "f"), make([]byte, 4096), 0)
			if c.good && (n != 100 || err != nil) || !c.good && (n != 0 || err == nil) {
				t.Errorf("read: %d, %v", n, err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			if n := c.content.closed.Load(); n != 1 {
				t.Errorf("closed %d times", n)
			}
		})
	}
}

// A panic in the view must not leave others waiting for what it was opening.
func TestPanicWhileOpening(t *testing.T) {
	v := viewtest.New()
	v.Add("/f", viewtest.File{Data: pattern(100)})
	f := tree.New(v, tree.Options{})
	defer f.Close()
	node := look(t, f, "f")
	v.SetHook(func(_ context.Context, op viewtest.Op, _ view.Node) error {
		if op == viewtest.OpOpen {
			panic("bug")
		}
		return nil
	})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, _ = f.ReadAt(t.Context(), node, make([]byte, 1), 0)
	}()
	v.SetHook(nil)
	if n, err := f.ReadAt(t.Context(), node, make([]byte, 100), 0); n != 100 || err != nil {
		t.Errorf("read after the panic: %d, %v", n, err)
	}
}
