package catalog

import (
	"context"
	"fmt"

	"github.com/rootstock-cf/rootstock/catalog/internal/sqlfile"
)

// Audit calls fn for every row, by ascending row id, with its chunks: also for
// rows that are wrong, with the reason, and as much of the row as could be
// read. It returns how many rows of the table of chunks belong to no chunked
// file, and the first error of fn, of ctx, or [ErrInvalid] for a file that
// cannot be read on.
func (r *Reader) Audit(ctx context.Context, fn func(row *Row, wrong error) error) (strayChunks int64, err error) {
	chunks, err := r.loadChunks(ctx)
	if err != nil {
		return 0, fmt.Errorf("read chunks: %w", err)
	}
	strayChunks = int64(len(chunks.keys))
	n := 0
	err = r.db.Query("SELECT "+r.layout.row+" FROM catalog NOT INDEXED", nil, func(rows *sqlfile.Rows) error {
		if n++; n%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		var row Row
		blob, wrong := decodeRow(rows, &row)
		rows.Forgive() // wrong says it, and the next row may be good
		if wrong == nil {
			takeXAttrs(&row, blob)
			if row.Flags&Chunked != 0 {
				wrong = takeChunks(&row.Entry, chunks.of(row.Key))
				strayChunks -= int64(len(row.Chunks))
			}
		}
		return fn(&row, wrong)
	})
	if err != nil {
		return strayChunks, fmt.Errorf("read catalog: %w", err)
	}
	return strayChunks, nil
}

// Plain zeroes the counters that catalogs of a schema revision do not have yet,
// so that what is counted can be compared with what such a catalog states.
func (c Counters) Plain(revision int) Counters {
	fields := c.fields()
	for i, k := range counterNames {
		if revision < k.since {
			*fields[i] = 0
		}
	}
	return c
}

// Differences names each counter in which c and o differ, with both values.
func (c Counters) Differences(o Counters) []string {
	var all []string
	of := o.fields()
	for i, p := range c.fields() {
		if *p != *of[i] {
			all = append(all, fmt.Sprintf("%s is %d instead of %d", counterNames[i].name, *p, *of[i]))
		}
	}
	return all
}
