package catalog

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sort"

	"github.com/rootstock-cf/rootstock/catalog/internal/sqlfile"
)

// checkEvery is how many rows pass between two looks at the context.
const checkEvery = 1024

// Scan calls fn for every row, by ascending row id, with its chunks, and
// returns the first error of fn, of ctx, or [ErrInvalid]. What fn gets is its
// to keep. Chunks that belong to no row are not looked at.
func (r *Reader) Scan(ctx context.Context, fn func(Row) error) error {
	return r.scan(ctx, func(row *Row, xattr []byte) error {
		takeXAttrs(row, xattr)
		return fn(*row)
	})
}

// scan is Scan with the xattrs as they are stored; row is used again.
func (r *Reader) scan(ctx context.Context, fn func(row *Row, xattr []byte) error) error {
	chunks, err := r.loadChunks(ctx)
	if err != nil {
		return fmt.Errorf("read chunks: %w", err)
	}
	var row Row
	n := 0
	err = r.db.Query("SELECT "+r.layout.row+" FROM catalog NOT INDEXED", nil, func(rows *sqlfile.Rows) error {
		if n++; n%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		blob, err := decodeRow(rows, &row)
		if err != nil {
			return err
		}
		if row.Flags&Chunked != 0 {
			if err := takeChunks(&row.Entry, chunks.of(row.Key)); err != nil {
				return err
			}
		}
		return fn(&row, blob)
	})
	if err != nil {
		return fmt.Errorf("read catalog: %w", err)
	}
	return nil
}

// chunkList is the chunks of a catalog, sorted by key and offset; keys and
// chunks run in parallel.
type chunkList struct {
	keys   []PathKey
	chunks []Chunk
}

func (r *Reader) loadChunks(ctx context.Context) (*chunkList, error) {
	l := &chunkList{}
	if !r.layout.chunks {
		return l, nil
	}
	type keyed struct {
		PathKey
		Chunk
	}
	var all []keyed
	err := r.db.Query("SELECT md5path_1, md5path_2, offset, size, hash FROM chunks NOT INDEXED", nil, func(rows *sqlfile.Rows) error {
		if len(all)%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		c, err := decodeChunk(rows, 2)
		all = append(all, keyed{PathKey{rows.Int(0), rows.Int(1)}, c})
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b keyed) int {
		return cmp.Or(compareKeys(a.PathKey, b.PathKey), cmp.Compare(a.Offset, b.Offset))
	})
	l.keys, l.chunks = make([]PathKey, len(all)), make([]Chunk, len(all))
	for i, k := range all {
		l.keys[i], l.chunks[i] = k.PathKey, k.Chunk
	}
	return l, nil
}

func (l *chunkList) of(key PathKey) []Chunk {
	from := sort.Search(len(l.keys), func(i int) bool { return compareKeys(l.keys[i], key) >= 0 })
	to := from
	for to < len(l.keys) && l.keys[to] == key {
		to++
	}
	return l.chunks[from:to:to]
}

func compareKeys(a, b PathKey) int {
	return cmp.Or(cmp.Compare(a.A, b.A), cmp.Compare(a.B, b.B))
}
