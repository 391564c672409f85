package erofs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/imagemeta/erofs"
	"github.com/rootstock-cf/rootstock/object"
)

func dir(path string) imagemeta.Entry { return imagemeta.Entry{Path: path, Mode: 0o040755} }

func file(path string, content string) imagemeta.Entry {
	return imagemeta.Entry{
		Path: path, Mode: 0o100644, Size: int64(len(content)), Content: object.ContentOf([]byte(content)),
	}
}

// capability is cap_net_raw=ep as the kernel stores it.
var capability = []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// acl is user::rw-,user:1000:r--,group::r--,mask::r--,other::r--.
var acl = []byte{
	2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 0xe8, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255,
	16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 4, 0, 255, 255, 255, 255,
}

const contentA, contentB = "#!/bin/sh\necho hello\n", "linked twice"

// sample has everything a tree can hold, at the limits.
func sample() []imagemeta.Entry {
	linked := func(path string) imagemeta.Entry {
		e := file(path, contentB)
		e.Link, e.UID, e.GID, e.MTime, e.Nsec = 1, 70000, 4294967294, 1700000001, 123456789
		e.XAttrs = []imagemeta.XAttr{{Name: "security.capability", Value: capability}}
		return e
	}
	script := file("bin/script", contentA)
	script.Mode = 0o104755
	access := file("etc/acl", contentA)
	access.XAttrs = []imagemeta.XAttr{{Name: "system.posix_acl_access", Value: acl}}
	var large imagemeta.Entry = file("etc/large", "x")
	large.Size = 5 << 40
	full := file("etc/xattrs", "")
	for i := range 3 {
		full.XAttrs = append(full.XAttrs, imagemeta.XAttr{Name: fmt.Sprintf("user.%d", i), Value: bytes.Repeat([]byte{byte(i)}, 65535)})
	}
	full.XAttrs = append(full.XAttrs, imagemeta.XAttr{Name: "user.empty", Value: []byte{}})
	odd := dir("odd")
	odd.Mode, odd.MTime, odd.Nsec = 0o041777, -1, 999999999
	odd.XAttrs = []imagemeta.XAttr{{Name: "system.posix_acl_default", Value: acl}, {Name: "trusted.own", Value: []byte("v")}, {Name: "user.x", Value: []byte("dir")}}
	return []imagemeta.Entry{
		dir(""), dir("bin"), linked("bin/linked"), script,
		dir("dev"),
		{Path: "dev/block", Mode: 0o060660, Major: 4095, Minor: 1048575},
		{Path: "dev/null", Mode: 0o020666, Major: 1, Minor: 3},
		{Path: "dev/pipe", Mode: 0o010600, UID: 1},
		{Path: "dev/sock", Mode: 0o140777},
		dir("empty"), dir("etc"), access, file("etc/empty", ""), large, full,
		odd, file("odd/!before the dots", "1"), file("odd/-", "2"), file("odd/.wh.name", "3"),
		file("odd/"+strings.Repeat("n", 255), "4"), file("odd/\xff\n", "5"),
		{Path: "old", Mode: 0o120777, Target: "bin/script", MTime: -5_000_000_000},
		{Path: "target", Mode: 0o120777, Target: strings.Repeat("t/", 2047) + "t"},
		dir("usr"), dir("usr/sub"), linked("usr/sub/other name"),
	}
}

// wide is a directory of n files, and a directory in it.
func wide(n int) []imagemeta.Entry {
	entries := []imagemeta.Entry{dir(""), dir("d")}
	for i := range n {
		entries = append(entries, file(fmt.Sprintf("d/name-%07d", i), fmt.Sprint(i)))
	}
	return append(entries, dir("d/sub"), file("d/sub/f", "f"))
}

// crossings are inodes of all lengths, so that many would lie across the
// border of two blocks.
func crossings() []imagemeta.Entry {
	entries := []imagemeta.Entry{dir("")}
	for i := range 400 {
		d := fmt.Sprintf("d%03d", i)
		entries = append(entries, dir(d))
		for j := range i % 30 {
			entries = append(entries, imagemeta.Entry{
				Path: fmt.Sprintf("%s/link-%d%s", d, j%10, strings.Repeat("x", j)), Mode: 0o120777, Target: strings.Repeat("t", i*10+j+1),
			})
		}
		slices.SortFunc(entries, func(a, b imagemeta.Entry) int { return imagemeta.Compare(a.Path, b.Path) })
	}
	return entries
}

func write(t testing.TB, entries []imagemeta.Entry) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck
	size, err := erofs.Write(f, entries)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != size {
		t.Fatalf("image of %d bytes, said to be %d: %v", info.Size(), size, err)
	}
	return name
}

// run runs one of Debian's erofs-utils, the independent check of the format.
func run(t testing.TB, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Skipf("%s is not installed: image not checked by anything but the kernel", args[0])
	}
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%.2000s", args, err, out)
	}
	return string(out)
}

func TestFsckAcceptsImages(t *testing.T) {
	for name, entries := range map[string][]imagemeta.Entry{
		"root": {dir("")}, "sample": sample(), "20,000 names": wide(20_000), "crossings": crossings(),
	} {
		image := write(t, entries)
		if out := run(t, "fsck.erofs", image); out != "" {
			t.Errorf("%s: fsck.erofs says %s", name, out)
		}
	}
}

// That fsck.erofs finds what is wrong is what makes its silence worth having.
func TestFsckFindsDamage(t *testing.T) {
	image := write(t, sample())
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	b[2000] ^= 1
	if err := os.WriteFile(image, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("fsck.erofs"); err != nil {
		t.Skip("fsck.erofs is not installed: image not checked by anything but the kernel")
	}
	out, err := exec.Command("fsck.erofs", image).CombinedOutput()
	if err == nil && len(out) == 0 { // some versions find errors and exit with 0
		t.Error("fsck.erofs accepts a damaged first block")
	}
}

func TestDumpSeesTheSample(t *testing.T) {
	image := write(t, sample())
	super := run(t, "dump.erofs", "-s", image)
	for _, want := range []string{"magic number:                      0xE0F5E1E2", "Filesystem inode count:                       25"} {
		if !strings.Contains(strings.Join(strings.Fields(super), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("dump.erofs does not say %q but %s", want, super)
		}
	}
	out := run(t, "dump.erofs", "--path=/bin/linked", image)
	for _, want := range []string{"Links: 2", "Size: 12", "Uid: 70000", "Access: 0644"} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("dump.erofs does not say %q but %s", want, out)
		}
	}
}

func TestWriteIsDeterministic(t *testing.T) {
	first, err := os.ReadFile(write(t, sample()))
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(write(t, sample()))
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("a second image differs, %v", err)
	}
	var b bytes.Buffer
	if _, err := imagemeta.Encode(&b, sample()); err != nil {
		t.Fatal(err)
	}
	decoded, _, err := imagemeta.Decode(&b, imagemeta.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	third, err := os.ReadFile(write(t, decoded))
	if err != nil || !bytes.Equal(first, third) {
		t.Errorf("the image of the decoded listing differs, %v", err)
	}
}

func TestWriteRefuses(t *testing.T) {
	redirect := file("f", "x")
	redirect.XAttrs = []imagemeta.XAttr{{Name: "trusted.overlay.redirect", Value: []byte("/etc/shadow")}}
	for name, tc := range map[string]struct {
		entries []imagemeta.Entry
		want    error
	}{
		"nothing":    {nil, imagemeta.ErrInvalid},
		"no root":    {[]imagemeta.Entry{dir("a")}, imagemeta.ErrInvalid},
		"root file":  {[]imagemeta.Entry{file("", "")}, imagemeta.ErrInvalid},
		"orphan":     {[]imagemeta.Entry{dir(""), file("a/b", "")}, imagemeta.ErrInvalid},
		"in a file":  {[]imagemeta.Entry{dir(""), file("a", ""), file("a/b", "")}, imagemeta.ErrInvalid},
		"unsorted":   {[]imagemeta.Entry{dir(""), file("b", ""), file("a", "")}, imagemeta.ErrInvalid},
		"twice":      {[]imagemeta.Entry{dir(""), file("a", ""), file("a", "")}, imagemeta.ErrInvalid},
		"left dir":   {[]imagemeta.Entry{dir(""), dir("a"), dir("b"), file("a/b", "")}, imagemeta.ErrInvalid},
		"bad name":   {[]imagemeta.Entry{dir(""), dir("..")}, imagemeta.ErrInvalid},
		"two roots":  {[]imagemeta.Entry{dir(""), dir("")}, imagemeta.ErrInvalid},
		"redirect":   {[]imagemeta.Entry{dir(""), redirect}, imagemeta.ErrUnsupported},
		"white-out":  {[]imagemeta.Entry{dir(""), {Path: "w", Mode: 0o020000}}, imagemeta.ErrUnsupported},
		"group gap":  {[]imagemeta.Entry{dir(""), {Path: "a", Mode: 0o010000, Link: 2}}, imagemeta.ErrInvalid},
		"group of 1": {[]imagemeta.Entry{dir(""), {Path: "a", Mode: 0o010000, Link: 1}}, imagemeta.ErrInvalid},
		"not equal":  {[]imagemeta.Entry{dir(""), {Path: "a", Mode: 0o010000, Link: 1}, {Path: "b", Mode: 0o140000, Link: 1}}, imagemeta.ErrInvalid},
	} {
		if _, err := erofs.Write(&memory{}, tc.entries); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	full := errors.New("disk full")
	for _, entries := range [][]imagemeta.Entry{sample(), wide(20_000)} {
		if _, err := erofs.Write(&memory{err: full}, entries); !errors.Is(err, full) {
			t.Errorf("a writer's error became %v", err)
		}
	}
}

// memory counts what is written to it.
type memory struct {
	end int64
	err error
}

func (m *memory) WriteAt(b []byte, at int64) (int, error) {
	m.end = max(m.end, at+int64(len(b)))
	return len(b), m.err
}

var _ io.WriterAt = (*memory)(nil)

func BenchmarkWrite(b *testing.B) {
	entries := []imagemeta.Entry{dir(""), dir("usr")}
	for i := 0; len(entries) < 44_000; i++ {
		d := fmt.Sprintf("usr/package-%05d", i)
		entries = append(entries, dir(d))
		for j := range 7 {
			entries = append(entries, file(fmt.Sprintf("%s/some-file-%d.conf", d, j), fmt.Sprint(i, j)))
		}
	}
	b.ReportAllocs()
	var m memory
	for b.Loop() {
		if _, err := erofs.Write(&m, entries); err != nil {
			b.Fatal(err)
		}
	}
	n := float64(len(entries))
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/inode")
	b.ReportMetric(float64(m.end)/n, "B/inode")
}
