package testsite

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/catalog/history"
	"github.com/rootstock-cf/rootstock/catalog/reflog"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
)

// Head returns the manifest as it is.
func (s *Site) Head() manifest.Manifest {
	s.t.Helper()
	env, err := manifest.Open(s.Read(".cvmfspublished"))
	s.check(err)
	m, err := manifest.Parse(env.Body)
	s.check(err)
	return m
}

// Read returns a file of the store.
func (s *Site) Read(name string) []byte {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.Dir, name))
	s.check(err)
	return b
}

// Write replaces a file of the store, but never what a clone shares with it.
func (s *Site) Write(name string, data []byte) {
	s.t.Helper()
	path := filepath.Join(s.Dir, name)
	s.check(os.MkdirAll(filepath.Dir(path), 0o755))
	s.check(os.RemoveAll(path))
	s.check(os.WriteFile(path, data, 0o644))
}

// Remove deletes a file of the store.
func (s *Site) Remove(name string) {
	s.t.Helper()
	s.check(os.Remove(filepath.Join(s.Dir, name)))
}

// Plain decodes a zlib object.
func (s *Site) Plain(h object.Hash, t object.Type) []byte {
	s.t.Helper()
	var b bytes.Buffer
	_, err := codec.Decode(&b, bytes.NewReader(s.Read(object.Path(h, t))), codec.Expect{Hash: h, Size: -1, Limit: 1 << 30})
	s.check(err)
	return b.Bytes()
}

// Put stores an object, zlib as all of the format's own.
func (s *Site) Put(plain []byte, t object.Type) object.Hash {
	s.t.Helper()
	b, err := codec.Encode(object.Zlib, nil, plain)
	s.check(err)
	h := s.Head().RootCatalog.Algorithm.Sum(b)
	s.Write(object.Path(h, t), b)
	return h
}

// Sign changes the manifest and signs it.
func (s *Site) Sign(change func(*manifest.Manifest)) {
	s.t.Helper()
	m := s.Head()
	change(&m)
	raw, err := m.Sign(s.Keys.Release, m.RootCatalog.Algorithm)
	s.check(err)
	s.Write(".cvmfspublished", raw)
}

// Log changes the reflog, and the manifest with it.
func (s *Site) Log(change func(*reflog.Log)) {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "reflog")
	s.check(os.WriteFile(file, s.Read(".cvmfsreflog"), 0o600))
	l, err := reflog.Open(file)
	s.check(err)
	change(l)
	s.check(l.Finish())
	raw, err := os.ReadFile(file)
	s.check(err)
	s.Write(".cvmfsreflog", raw)
	s.Sign(func(m *manifest.Manifest) { m.Reflog = m.RootCatalog.Algorithm.Sum(raw) })
}

// Adopt makes the manifest name other root objects, and lists them.
func (s *Site) Adopt(change func(*manifest.Manifest)) {
	s.t.Helper()
	s.Sign(change)
	m := s.Head()
	s.Log(func(l *reflog.Log) {
		s.check(l.Add(m.RootCatalog, object.Catalog, s.Now().Unix()))
		s.check(l.Add(m.History, object.History, s.Now().Unix()))
		s.check(l.Add(m.Metainfo, object.Metainfo, s.Now().Unix()))
		s.check(l.Add(m.Certificate, object.Certificate, s.Now().Unix()))
	})
}

// Database runs SQL on a database.
func (s *Site) Database(plain []byte, sql ...string) []byte {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "db")
	s.check(os.WriteFile(file, plain, 0o600))
	conn, err := sqlite.OpenConn(file, sqlite.OpenReadWrite)
	s.check(err)
	for _, q := range sql {
		s.check(sqlitex.ExecuteScript(conn, q, nil))
	}
	s.check(conn.Close())
	b, err := os.ReadFile(file)
	s.check(err)
	return b
}

// History runs SQL on the history.
func (s *Site) History(sql ...string) {
	s.t.Helper()
	h := s.Put(s.Database(s.Plain(s.Head().History, object.History), sql...), object.History)
	s.Adopt(func(m *manifest.Manifest) { m.History = h })
}

// Edit runs SQL on the catalog mounted at path, and links it to the root anew,
// so that nothing but what the SQL did is wrong.
func (s *Site) Edit(path string, sql ...string) {
	s.t.Helper()
	s.Replace(path, func(plain []byte) []byte { return s.Database(plain, sql...) })
}

// Replace is Edit by a function.
func (s *Site) Replace(path string, change func(plain []byte) []byte) {
	s.t.Helper()
	m := s.Head()
	root, size := s.replace("", m.RootCatalog, path, change)
	s.Adopt(func(m *manifest.Manifest) { m.RootCatalog, m.CatalogSize = root, size })
	s.History("UPDATE tags SET hash = '" + root.String() + "' WHERE name = '" + history.Trunk + "'")
}

func (s *Site) replace(mount string, h object.Hash, path string, change func([]byte) []byte) (object.Hash, int64) {
	s.t.Helper()
	plain := s.Plain(h, object.Catalog)
	if mount == path {
		plain = change(plain)
		return s.Put(plain, object.Catalog), int64(len(plain))
	}
	for _, n := range s.nested(plain) {
		if path != n.Path && !strings.HasPrefix(path, n.Path+"/") {
			continue
		}
		child, size := s.replace(n.Path, n.Hash, path, change)
		plain = s.Database(plain, "UPDATE nested_catalogs SET sha1 = '"+child.String()+"', size = "+strconv.FormatInt(size, 10)+" WHERE path = '"+n.Path+"'")
		return s.Put(plain, object.Catalog), int64(len(plain))
	}
	s.t.Fatalf("no catalog at %s", path)
	return h, 0
}

func (s *Site) nested(plain []byte) []catalog.Nested {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "db")
	s.check(os.WriteFile(file, plain, 0o600))
	r, err := catalog.OpenReader(file)
	s.check(err)
	defer r.Close()
	list, err := r.Nested()
	s.check(err)
	return list
}

// Row returns the row at path, which the catalog mounted at mount has.
func (s *Site) Row(mount, path string) (e catalog.Entry) {
	s.t.Helper()
	h := s.Head().RootCatalog
	for at := ""; at != mount; {
		next := at
		for _, n := range s.nested(s.Plain(h, object.Catalog)) {
			if mount == n.Path || strings.HasPrefix(mount, n.Path+"/") {
				next, h = n.Path, n.Hash
			}
		}
		if next == at {
			s.t.Fatalf("no catalog at %s", mount)
		}
		at = next
	}
	file := filepath.Join(s.t.TempDir(), "db")
	s.check(os.WriteFile(file, s.Plain(h, object.Catalog), 0o600))
	r, err := catalog.OpenReader(file)
	s.check(err)
	defer r.Close()
	found := false
	s.check(r.Scan(context.Background(), func(row catalog.Row) error {
		if row.Key == catalog.KeyOf(path) {
			e, found = row.Entry, true
		}
		return nil
	}))
	if !found {
		s.t.Fatalf("no row at %s", path)
	}
	return e
}

// Object is the name of the object of a file that has one.
func (s *Site) Object(mount, path string) string {
	s.t.Helper()
	e := s.Row(mount, path)
	if len(e.Chunks) > 0 {
		return object.Path(e.Chunks[len(e.Chunks)-1].Hash, object.Partial)
	}
	return object.Path(e.Hash, object.Bulk)
}
