package catalog_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/rootstock-cf/rootstock/catalog"
)

// FuzzRows puts arbitrary values into the rows of a catalog that is sound
// otherwise, which bytes of a database seldom do: the file's entry, its chunk
// and the nested catalog. What is accepted has names that are single
// components, chunks that tile, and an index that opens.
func FuzzRows(f *testing.F) {
	path := sample(f)
	template, err := os.ReadFile(path)
	must(f, err)
	f.Add("f", "", int64(0o100644), int64(4), int64(10), int64(1), int64(5), []byte("01234567890123456789"), []byte{1, 1, 1, 1, 'a', 'b'}, int64(0), int64(10), []byte(nil), "/n", someHash.String())
	f.Add("a/b", "x", int64(0o120777), int64(12), int64(1), int64(1<<32|2), int64(-1), []byte(nil), []byte(nil), int64(5), int64(5), []byte("01234567890123456789"), "/n/../m", "")
	f.Add("", "", int64(0o040755), int64(0x4000|1), int64(4096), int64(2), int64(0), []byte(nil), []byte{2}, int64(0), int64(0), []byte{0}, "n", "zz")
	f.Add("c", "", int64(0o100644), int64(68), int64(10), int64(1), int64(0), []byte(nil), []byte(nil), int64(0), int64(10), []byte("01234567890123456789"), "/n", someHash.String())
	f.Fuzz(func(t *testing.T, name, symlink string, mode, flags, size, links, ns int64, hash, xattr []byte, offset, length int64, chunk []byte, nested, nestedHash string) {
		path := filepath.Join(t.TempDir(), "catalog")
		must(t, os.WriteFile(path, template, 0o600))
		conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
		must(t, err)
		must(t, sqlitex.ExecuteTransient(conn, "PRAGMA synchronous = OFF", nil)) // for speed
		orNull := func(b []byte) any {
			if len(b) == 0 {
				return nil
			}
			return b
		}
		for _, q := range []struct {
			text string
			args []any
		}{
			{
				"UPDATE catalog SET name = ?, symlink = ?, mode = ?, flags = ?, size = ?, hardlinks = ?, mtimens = ?, hash = ?, xattr = ? WHERE name = 'f'",
				[]any{name, symlink, mode, flags, size, links, ns, orNull(hash), orNull(xattr)},
			},
			{"INSERT INTO chunks SELECT md5path_1, md5path_2, ?, ?, ? FROM catalog WHERE name = ? LIMIT 1", []any{offset, length, orNull(chunk), name}},
			{"UPDATE nested_catalogs SET path = ?, sha1 = ?", []any{nested, nestedHash}},
		} {
			must(t, sqlitex.Execute(conn, q.text, &sqlitex.ExecOptions{Args: q.args}))
		}
		must(t, conn.Close())
		index := path + ".index"
		if err := readAll(t.Context(), path, index); err != nil {
			if !errors.Is(err, catalog.ErrInvalid) {
				t.Error(err)
			}
			return
		}
		x, err := catalog.OpenIndex(index)
		must(t, err)
		defer x.Close() //nolint:errcheck // read only
		for row := range uint32(x.Len()) {
			if n := string(x.Name(row)); row > 0 && (n == "" || n == "." || n == ".." || strings.ContainsAny(n, "/\x00")) {
				t.Errorf("row %d is called %q", row, n)
			}
			st := x.Stat(row)
			if st.Flags&catalog.Chunked == 0 {
				continue
			}
			end := int64(0)
			for _, c := range x.Chunks(row) {
				if c.Offset != end || c.Size <= 0 {
					t.Errorf("chunk at %d of %d bytes, after %d", c.Offset, c.Size, end)
				}
				end += c.Size
			}
			if end != st.Size {
				t.Errorf("chunks up to %d of %d bytes", end, st.Size)
			}
		}
	})
}
