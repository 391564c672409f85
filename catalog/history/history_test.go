package history_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/rootstock-cf/rootstock/catalog/history"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func root(n int) object.Hash { return object.SHAKE128.Sum([]byte{byte(n)}) }

func tag(name string, n int) history.Tag {
	return history.Tag{
		Name: name, Root: root(n), Revision: uint64(n), Timestamp: int64(1000 * n), Size: 4096,
		Description: "number " + name,
	}
}

func create(t testing.TB) (*history.Writer, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "history")
	w, err := history.Create(path, "test.example.org")
	must(t, err)
	t.Cleanup(func() { must(t, w.Close()) })
	return w, path
}

func open(t testing.TB, path string) *history.Reader {
	t.Helper()
	r, err := history.Open(path)
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	return r
}

func names(tags []history.Tag) string {
	var s []string
	for _, t := range tags {
		s = append(s, t.Name)
	}
	return strings.Join(s, " ")
}

func TestTags(t *testing.T) {
	w, path := create(t)
	for i, name := range []string{"a", "b", "c"} {
		must(t, w.Add(tag(name, i+1)))
	}
	if err := w.Add(tag("a", 9)); !errors.Is(err, history.ErrExist) {
		t.Errorf("second Add: %v", err)
	}
	must(t, w.Replace(tag("b", 7)))
	must(t, w.Remove("c"))
	if err := w.Remove("c"); !errors.Is(err, history.ErrNotExist) {
		t.Errorf("second Remove: %v", err)
	}
	must(t, w.Finish(root(0)))
	r := open(t, path)
	if r.FQRN() != "test.example.org" || r.Previous() != root(0) {
		t.Errorf("%s, %s", r.FQRN(), r.Previous())
	}
	got, err := r.List()
	must(t, err)
	if diff := cmp.Diff([]history.Tag{tag("b", 7), tag("a", 1)}, got); diff != "" {
		t.Error(diff)
	}
	if got, ok, err := r.Get("a"); err != nil || !ok || got != tag("a", 1) {
		t.Errorf("Get: %v, %v, %v", got, ok, err)
	}
	if _, ok, err := r.Get("c"); ok || err != nil {
		t.Errorf("Get of nothing: %v, %v", ok, err)
	}
}

func TestPublishMovesTrunk(t *testing.T) {
	w, path := create(t)
	for i := 1; i <= 3; i++ {
		must(t, w.Publish(root(i), uint64(i), int64(i), 4096))
	}
	must(t, w.Finish(object.Hash{}))
	r := open(t, path)
	want := []history.Tag{
		{Name: "trunk", Root: root(3), Revision: 3, Timestamp: 3, Size: 4096, Description: "current HEAD"},
		{Name: "trunk-previous", Root: root(2), Revision: 2, Timestamp: 2, Size: 4096, Description: "default undo target"},
	}
	got, err := r.List()
	must(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !r.Previous().IsZero() {
		t.Errorf("previous is %s", r.Previous())
	}
}

func TestByDate(t *testing.T) {
	w, _ := create(t)
	must(t, w.Add(tag("one", 1)))
	must(t, w.Add(tag("two", 2)))
	rollback := tag("three", 3)
	rollback.Timestamp = 2000
	must(t, w.Add(rollback))
	for at, want := range map[int64]string{999: "", 1000: "one", 1999: "one", 2000: "three", 9999: "three"} {
		if got, ok, err := w.ByDate(at); err != nil || got.Name != want || ok != (want != "") {
			t.Errorf("ByDate(%d) = %v, %v, %v; want %q", at, got, ok, err, want)
		}
	}
}

// What counts at a date is the highest revision tagged by then, and only what
// was tagged on the default branch.
func TestByDateOfBranches(t *testing.T) {
	path := finished(t)
	alter(t, path, "INSERT INTO branches VALUES ('dev', '', 1)")
	w, err := history.OpenWriter(path)
	must(t, err)
	late, branched := tag("late", 1), tag("branched", 9)
	late.Timestamp, branched.Branch = 5000, "dev"
	must(t, w.Add(late))
	must(t, w.Add(branched))
	must(t, w.Finish(object.Hash{}))
	r := open(t, path)
	if got, ok, err := r.Get("branched"); err != nil || !ok || got != branched {
		t.Errorf("%+v, %v, %v", got, ok, err)
	}
	if got, ok, err := r.ByDate(99999); err != nil || !ok || got.Name != "b" {
		t.Errorf("%+v, %v, %v", got, ok, err)
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"v1": true, "a/b:c.d_e-F9": true, "generic-2024-01-02T03:04:05Z": true,
		"": false, "a b": false, "é": false, "a\n": false, "a'": false, strings.Repeat("n", 256): false,
	} {
		w, _ := create(t)
		err := w.Add(tag(name, 1))
		if (err == nil) != ok || err != nil && !errors.Is(err, history.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
	at := time.Date(2024, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	if got := history.AutoName(at, 0) + " " + history.AutoName(at, 2); got != "generic-2024-01-02T02:04:05Z generic_2-2024-01-02T02:04:05Z" {
		t.Error(got)
	}
	for name, auto := range map[string]bool{
		history.AutoName(at, 0): true, history.AutoName(at, 12): true, "generic-2024-01-02T03:04:05.123Z": true,
		"generic": false, "generic_-2024-01-02T03:04:05Z": false, "my-generic-2024-01-02T03:04:05Z": false,
	} {
		if history.IsAuto(name) != auto {
			t.Errorf("IsAuto(%q) is %v", name, !auto)
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	w, _ := create(t)
	for name, change := range map[string]func(*history.Tag){
		"no root":     func(t *history.Tag) { t.Root = object.Hash{} },
		"revision":    func(t *history.Tag) { t.Revision = 1 << 63 },
		"size":        func(t *history.Tag) { t.Size = -1 },
		"branch":      func(t *history.Tag) { t.Branch = "unknown" },
		"description": func(t *history.Tag) { t.Description = strings.Repeat("d", 1<<17) },
	} {
		bad := tag("x", 1)
		change(&bad)
		if err := w.Add(bad); !errors.Is(err, history.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := history.Create(filepath.Join(t.TempDir(), "h"), ""); !errors.Is(err, history.ErrInvalid) {
		t.Errorf("Create without name: %v", err)
	}
}

func alter(t testing.TB, path, script string) {
	t.Helper()
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	must(t, err)
	must(t, sqlitex.ExecuteScript(conn, script, nil))
	must(t, conn.Close())
}

func finished(t testing.TB) string {
	t.Helper()
	w, path := create(t)
	must(t, w.Add(tag("a", 1)))
	must(t, w.Add(tag("b", 2)))
	must(t, w.Finish(object.Hash{}))
	return path
}

func TestOlderRevisions(t *testing.T) {
	for revision := range 4 {
		path := finished(t)
		size := int64(4096)
		if revision < 3 {
			alter(t, path, `CREATE TABLE old (name TEXT, hash TEXT, revision INTEGER, timestamp INTEGER, channel INTEGER, description TEXT, size INTEGER, CONSTRAINT pk_tags PRIMARY KEY (name));
				INSERT INTO old SELECT name, hash, revision, timestamp, channel, description, size FROM tags;
				DROP TABLE tags; ALTER TABLE old RENAME TO tags; DROP TABLE branches;`)
		}
		if revision < 2 {
			alter(t, path, "DROP TABLE recycle_bin")
		}
		if revision < 1 {
			alter(t, path, "ALTER TABLE tags DROP COLUMN size")
			size = 0
		}
		alter(t, path, fmt.Sprintf("UPDATE properties SET value = '%d' WHERE key = 'schema_revision'", revision))
		want := []history.Tag{tag("b", 2), tag("a", 1)}
		want[0].Size, want[1].Size = size, size
		got, err := open(t, path).List()
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("revision %d: %s", revision, diff)
		}
		if _, ok, err := open(t, path).ByDate(1500); err != nil || !ok {
			t.Errorf("revision %d: ByDate %v, %v", revision, ok, err)
		}
		w, err := history.OpenWriter(path)
		must(t, err)
		must(t, w.Add(tag("c", 3)))
		must(t, w.Finish(root(1)))
		got, err = open(t, path).List()
		must(t, err)
		if diff := cmp.Diff(append([]history.Tag{tag("c", 3)}, want...), got); diff != "" {
			t.Errorf("revision %d migrated: %s", revision, diff)
		}
	}
}

func TestHostile(t *testing.T) {
	for name, script := range map[string]string{
		"schema":     "UPDATE properties SET value = '2.0' WHERE key = 'schema'",
		"no name":    "DELETE FROM properties WHERE key = 'fqrn'",
		"no tags":    "DROP TABLE tags",
		"previous":   "INSERT INTO properties VALUES ('previous_revision', 'x')",
		"trigger":    "CREATE TRIGGER t AFTER INSERT ON tags BEGIN DELETE FROM tags; END",
		"tag name":   "UPDATE tags SET name = 'a b' WHERE name = 'a'",
		"hash":       "UPDATE tags SET hash = '' WHERE name = 'a'",
		"hash NULL":  "UPDATE tags SET hash = NULL WHERE name = 'a'",
		"revision":   "UPDATE tags SET revision = -1 WHERE name = 'a'",
		"size":       "UPDATE tags SET size = -1 WHERE name = 'a'",
		"time":       "UPDATE tags SET timestamp = 'x' WHERE name = 'a'",
		"huge value": "UPDATE tags SET description = printf('%.*c', 1000000, 'x') WHERE name = 'a'",
	} {
		path := finished(t)
		alter(t, path, script)
		r, err := history.Open(path)
		if err == nil {
			_, err = r.List()
			must(t, r.Close())
		}
		if !errors.Is(err, history.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The tags of a repository that stock CernVM-FS tagged four times.
func TestGolden(t *testing.T) {
	set := filepath.Join(goldenDir(t), "tags", "repo")
	manifest, err := os.ReadFile(filepath.Join(set, ".cvmfspublished"))
	must(t, err)
	var newest object.Hash
	for line := range strings.Lines(string(manifest)) {
		if text, ok := strings.CutPrefix(line, "H"); ok {
			newest, err = object.ParseHash(strings.TrimSpace(text))
			must(t, err)
			break
		}
	}
	// Along the chain of previous histories to the first.
	lists := 0
	for h := newest; !h.IsZero(); {
		stored, err := os.ReadFile(filepath.Join(set, object.Path(h, object.History)))
		must(t, err)
		var plain bytes.Buffer
		_, err = codec.Decode(&plain, bytes.NewReader(stored), codec.Expect{Hash: h, Size: -1, Limit: 1 << 20})
		must(t, err)
		path := filepath.Join(t.TempDir(), "history")
		must(t, os.WriteFile(path, plain.Bytes(), 0o600))
		r := open(t, path)
		tags, err := r.List()
		must(t, err)
		if lists++; lists == 1 {
			if got := names(tags); got != "release-4 trunk release-2 trunk-previous extra-on-r1 release-1" {
				t.Errorf("tags %s", got)
			}
			if got, _, err := r.ByDate(1795332692); err != nil || got.Revision != 2 {
				t.Errorf("ByDate: %v, %v", got, err)
			}
			if got, _, err := r.Get("release-2"); err != nil || got.Description != "second" || got.Size != 57344 {
				t.Errorf("Get: %v, %v", got, err)
			}
		}
		h = r.Previous()
	}
	if lists != 6 {
		t.Errorf("%d histories in the chain", lists)
	}
}

// goldenDir returns where repositories written by stock CernVM-FS are.
func goldenDir(t testing.TB) string {
	t.Helper()
	dirs := []string{os.Getenv("ROOTSTOCK_GOLDEN"), "../../../shared/golden", "../../../../shared/golden"}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); err == nil {
			return dir
		} else if !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	t.Skip("SKIPPED: no golden repositories: tags of stock CernVM-FS not compared; set ROOTSTOCK_GOLDEN")
	return ""
}
