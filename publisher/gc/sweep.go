package gc

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rootstock-cf/rootstock/object"
)

// deleters is how many objects are deleted at once. A directory needs few; a
// remote store answers each only after a round trip.
const deleters = 16

// found is an object that the store has.
type found struct {
	hash  object.Hash
	typ   object.Type
	size  int64
	young bool
}

// sweep deletes every object that is neither marked nor young. The store's 256
// prefixes are listed one by one, in the order in which the marks are sorted,
// so that a 256th of the names is in memory at a time.
func (c *collector) sweep(ctx context.Context) error {
	next, stop := iter.Pull2(c.marks.Sorted())
	defer stop()
	marked := &cursor{next: next}
	log := c.deletionLog()
	for i := range Prefixes {
		list, err := c.list(ctx, fmt.Sprintf("data/%02x/", i))
		if err != nil {
			return err
		}
		doomed := list[:0]
		for _, f := range list {
			used, err := marked.has(f.hash)
			switch {
			case err != nil:
				return err
			case used:
				c.r.Kept++
			case f.young && !c.untrue(f):
				c.r.Young++
			default:
				doomed = append(doomed, f)
			}
		}
		if err := c.delete(ctx, doomed, log); err != nil {
			return err
		}
		c.o.Progress.Swept.Add(1)
	}
	return log.close(c.o.Now())
}

// list returns the objects below prefix, sorted as marks are. What is no object
// by its name is nobody's, and left alone.
func (c *collector) list(ctx context.Context, prefix string) ([]found, error) {
	limit := c.now.Add(-c.o.Grace)
	var list []found
	err := c.st.ListAged(ctx, prefix, func(name string, size int64, put time.Time) error {
		if h, t, ok := object.ParsePath(name); ok {
			list = append(list, found{h, t, size, put.After(limit)})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", prefix, err)
	}
	slices.SortFunc(list, func(a, b found) int {
		x, y := markOf(a.hash), markOf(b.hash)
		return cmp.Or(bytes.Compare(x[:], y[:]), cmp.Compare(a.typ, b.typ))
	})
	return list, nil
}

// delete forgets objects, each of which is in the log before.
func (c *collector) delete(ctx context.Context, doomed []found, log *deletionLog) error {
	for _, f := range doomed {
		c.r.Deleted++
		c.r.Bytes += f.size
		c.o.Progress.Deleted.Add(1)
		c.o.Progress.Bytes.Add(f.size)
		if err := log.name(object.Path(f.hash, f.typ)); err != nil {
			return err
		}
	}
	if err := log.flush(); err != nil {
		return err
	}
	if c.o.DryRun {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(deleters)
	for _, f := range doomed {
		g.Go(func() error { return c.st.Delete(ctx, object.Path(f.hash, f.typ)) })
	}
	return g.Wait()
}

// cursor walks the marks along with ascending questions.
type cursor struct {
	next func() ([]byte, error, bool)
	mark []byte
	done bool
}

// has reports whether h is marked. Questions must ascend; one may be repeated.
func (c *cursor) has(h object.Hash) (bool, error) {
	m := markOf(h)
	for !c.done {
		switch {
		case c.mark == nil:
		case bytes.Equal(c.mark, m[:]):
			return true, nil
		case bytes.Compare(c.mark, m[:]) > 0:
			return false, nil
		}
		mark, err, ok := c.next()
		if err != nil {
			return false, err
		}
		c.mark, c.done = mark, !ok
	}
	return false, nil
}

// deletionLog is the operator's record of what was deleted, in stock's form.
type deletionLog struct{ w *bufio.Writer }

func (c *collector) deletionLog() *deletionLog {
	l := &deletionLog{}
	if c.o.DeletionLog != nil {
		l.w = bufio.NewWriter(c.o.DeletionLog)
		dry := ""
		if c.o.DryRun {
			dry = " (dry run)"
		}
		fmt.Fprintf(l.w, "# Garbage Collection%s started at %s\n", dry, c.now.UTC().Format(time.RFC3339)) //nolint:errcheck // kept until flush
	}
	return l
}

func (l *deletionLog) name(n string) error {
	if l.w == nil {
		return nil
	}
	_, err := l.w.WriteString(n + "\n")
	return l.wrap(err)
}

func (l *deletionLog) flush() error {
	if l.w == nil {
		return nil
	}
	return l.wrap(l.w.Flush())
}

func (l *deletionLog) close(now time.Time) error {
	if l.w == nil {
		return nil
	}
	fmt.Fprintf(l.w, "# Garbage Collection finished at %s\n", now.UTC().Format(time.RFC3339)) //nolint:errcheck // kept until flush
	return l.flush()
}

func (l *deletionLog) wrap(err error) error {
	if err != nil {
		return fmt.Errorf("deletion log: %w", err)
	}
	return nil
}
