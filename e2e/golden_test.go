package e2e_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/e2e/rig"
)

// goldenRepo serves a golden set and returns the arguments to mount it with.
func goldenRepo(t *testing.T, set, variant, fqrn string) []string {
	t.Helper()
	dir := filepath.Join(needGolden(t), set)
	return []string{"--url", rig.Serve(t, filepath.Join(dir, variant)), "--name", fqrn, "--key", filepath.Join(dir, "keys", fqrn+".pub")}
}

// Every repository that stock CernVM-FS wrote lists through the kernel as it
// does through the stock client: attributes, links, xattrs and content.
func TestGoldenMounts(t *testing.T) {
	needRoot(t)
	tools := rig.NeedTools(t, needGolden(t))
	bin := programs(t)
	for _, set := range []string{"basic", "nested", "chunked", "chunkeddef", "shake128", "uncompressed", "tags", "tagsgc"} {
		t.Run(set, func(t *testing.T) {
			args := goldenRepo(t, set, "repo", strings.TrimSuffix(set, "gc")+".golden.cf")
			mnt, _ := rig.Cell(t, bin, []string{"CVMFS_GOLDEN_VAR=/opt/golden"}, args...)
			tools.Same(t, "stock client (A), our mount (B)", filepath.Join(needGolden(t), set, "tree.jsonl"), tools.List(t, mnt))
		})
	}
}

// tag is a line of tags.txt.
type tag struct {
	name, hash string
	time       time.Time
}

func goldenTags(t *testing.T) (tags []tag) {
	t.Helper()
	f, err := os.Open(filepath.Join(needGolden(t), "tags", "tags.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 5 {
			t.Fatalf("tags.txt: %q", s.Text())
		}
		var seconds int64
		if err := json.Unmarshal([]byte(fields[4]), &seconds); err != nil {
			t.Fatal(err)
		}
		tags = append(tags, tag{fields[0], fields[1], time.Unix(seconds, 0).UTC()})
	}
	if len(tags) == 0 {
		t.Fatal("tags.txt names no tag")
	}
	return tags
}

// Each tag is found by its name, by its root hash without any signature, and by
// its time.
func TestGoldenTags(t *testing.T) {
	needRoot(t)
	tools := rig.NeedTools(t, needGolden(t))
	bin := programs(t)
	args := goldenRepo(t, "tags", "repo", "tags.golden.cf")
	for _, tag := range goldenTags(t) {
		want := filepath.Join(needGolden(t), "tags", "tree."+tag.name+".jsonl")
		if _, err := os.Stat(want); errors.Is(err, fs.ErrNotExist) {
			want = filepath.Join(needGolden(t), "tags", "tree.jsonl") // trunk
		}
		for _, by := range [][]string{
			{"--tag", tag.name}, {"--root-hash", tag.hash}, {"--date", tag.time.Format(time.RFC3339)},
		} {
			t.Run(tag.name+by[0], func(t *testing.T) {
				mnt, _ := rig.Cell(t, bin, nil, append(by, args...)...)
				tools.Same(t, "stock client (A), our mount (B)", want, tools.List(t, mnt))
			})
		}
	}
	for _, by := range [][]string{{"--tag", "nosuch"}, {"--date", "1999-12-31T23:59:59Z"}} {
		if said := rig.Refused(t, bin, append(by, args...)...); !strings.Contains(said, "no such tag") {
			t.Errorf("%v: %s", by, said)
		}
	}
}

// Every broken repository is refused where the stock client refuses it, with a
// reason that says what is wrong.
func TestGoldenFail(t *testing.T) {
	needRoot(t)
	tools := rig.NeedTools(t, needGolden(t))
	bin := programs(t)
	for variant, reason := range map[string]string{
		"cert-tampered":               "certificate",
		"manifest-body-tampered":      "manifest",
		"manifest-foreign-cert":       "certificate is not on the whitelist",
		"manifest-truncated":          "manifest",
		"rootcatalog-tampered":        "root catalog",
		"whitelist-expired":           "whitelist has expired",
		"whitelist-foreign-masterkey": "whitelist",
	} {
		t.Run(variant, func(t *testing.T) {
			if said := rig.Refused(t, bin, goldenRepo(t, "fail", variant, "fail.golden.cf")...); !strings.Contains(said, reason) {
				t.Errorf("want %q: %s", reason, said)
			}
		})
	}
	want := filepath.Join(needGolden(t), "fail", "tree.jsonl")
	for _, variant := range []string{"good", "ok-whitelist-two-certs"} {
		t.Run(variant, func(t *testing.T) {
			mnt, _ := rig.Cell(t, bin, nil, goldenRepo(t, "fail", variant, "fail.golden.cf")...)
			tools.Same(t, variant, want, tools.List(t, mnt))
		})
	}
	for variant, where := range map[string]string{
		"nestedcatalog-tampered": "/nest", "file-tampered": "", "file-truncated": "", "file-appended": "", "chunk-tampered": "/chunked",
	} {
		t.Run(variant, func(t *testing.T) {
			mnt, cell := rig.Cell(t, bin, nil, goldenRepo(t, "fail", variant, "fail.golden.cf")...)
			broken := unreadable(t, mnt)
			if len(broken) != 1 || where != "" && broken[0] != where {
				t.Errorf("unreadable: %v, want %q", broken, where)
			}
			cell.Until("the log says why", func() bool { return strings.Contains(cell.Said(), "corrupt") })
		})
	}
}

// unreadable reads all below root and returns where that gives EIO. Any other
// error fails the test.
func unreadable(t *testing.T, root string) (list []string) {
	t.Helper()
	failed := func(path string, err error) {
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v", path, err)
		}
		list = append(list, strings.TrimPrefix(path, root))
	}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			failed(path, err)
			return nil
		}
		if !e.Type().IsRegular() {
			return nil
		}
		f, err := os.Open(path)
		if err == nil {
			_, err = io.Copy(io.Discard, f)
			f.Close()
		}
		if err != nil {
			failed(path, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return list
}
