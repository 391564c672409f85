package client_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
)

// A repository that asks for membership shows nothing: this client knows no
// way of telling members from others, and the contents are not everybody's.
func TestMembersOnly(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(testrepo.Tree{"/f": testrepo.Text("secret")})
	m := repo.Head()

	var db bytes.Buffer
	if _, err := codec.Decode(&db, bytes.NewReader(repo.Get(object.Path(m.RootCatalog, object.Catalog))), codec.Expect{
		Hash: m.RootCatalog, Compression: object.Zlib, Size: m.CatalogSize,
	}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "catalog")
	if err := os.WriteFile(file, db.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := catalog.OpenWriter(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.SetProperty("voms_authz", "x509%/example"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Finish(catalog.Revision{Number: m.Revision + 1}); err != nil {
		t.Fatal(err)
	}
	plain, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m.RootCatalog, m.CatalogSize, m.Revision = repo.PutObject(object.Zlib, object.Catalog, plain), int64(len(plain)), m.Revision+1
	repo.Sign(m)

	r, err := client.Open(t.Context(), clientOf(t, repo))
	if err == nil {
		r.Close()
	}
	if !errors.Is(err, client.ErrRestricted) || !strings.Contains(err.Error(), "x509%/example") {
		t.Errorf("a repository for members: %v", err)
	}
}

// The last lines of what the log was told are there to be read, newest first,
// whether or not the log itself wants them.
func TestLogBuffer(t *testing.T) {
	repo := testrepo.New(t, testrepo.Options{})
	repo.Publish(testrepo.Tree{"/f": testrepo.Text("0")})
	r := openRepository(t, clientOf(t, repo))
	if got := mustXAttr(t, r, r.Root(), "user.logbuffer"); got != "" {
		t.Errorf("before anything happened: %q", got)
	}
	for n := range 40 {
		repo.Publish(testrepo.Tree{"/f": testrepo.Text(strconv.Itoa(n))})
		if _, err := r.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	lines := strings.Split(strings.TrimSpace(mustXAttr(t, r, r.Root(), "user.logbuffer")), "\n")
	if len(lines) != 32 || !strings.Contains(lines[0], "revision=41") || !strings.Contains(lines[31], "revision=10") {
		t.Errorf("%d lines:\n%s", len(lines), strings.Join(lines, "\n"))
	}
}
