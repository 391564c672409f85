package zipfile_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/publisher/source/zipfile"
)

// put is an entry for pack. A name that ends in / is a directory.
type put struct {
	name, text string
	mode       fs.FileMode
	change     func(*zip.FileHeader)
}

var day = time.Date(2026, 3, 4, 5, 6, 8, 0, time.UTC)

// pack writes a zip as Go's own package does.
func pack(t testing.TB, entries ...put) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: day}
		if e.mode == 0 {
			e.mode = 0o644
		}
		h.SetMode(e.mode)
		if e.change != nil {
			e.change(h)
		}
		f, err := w.CreateHeader(h)
		if err == nil && !strings.HasSuffix(e.name, "/") {
			_, err = io.WriteString(f, e.text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// list reads all of a zip and describes it, one line for each file.
func list(b []byte) ([]string, error) {
	a, err := zipfile.Open(bytes.NewReader(b), int64(len(b)), zipfile.Limits{})
	if err != nil {
		return nil, err
	}
	r := a.NewReader()
	var lines []string
	for i := range a.Files {
		f := &a.Files[i]
		text, err := io.ReadAll(r.Open(f))
		if err != nil {
			return nil, fmt.Errorf("%q: %w", f.Name, err)
		}
		if len(text) > 20 {
			text = fmt.Appendf(nil, "%d bytes", len(text))
		}
		lines = append(lines, fmt.Sprintf("%s %o %s %s", f.Name, f.Mode, f.ModTime.Format(time.RFC3339), text))
	}
	return lines, nil
}

func TestReads(t *testing.T) {
	b := pack(t,
		put{"bin/", "", 0o755 | fs.ModeDir, nil},
		put{"bin/detect", "#!/bin/sh\n", 0o755, nil},
		put{"lib/link", "../bin/detect", 0o777 | fs.ModeSymlink, nil},
		put{"VERSION", "1.2.3\n", 0o644, func(h *zip.FileHeader) { h.Method = zip.Store }},
		put{"empty", "", 0o600, nil},
		put{"suid", strings.Repeat("x", 300_000), 0o755 | fs.ModeSetuid, nil},
		put{"\xff\xfe", "no text", 0o644, nil},
	)
	want := []string{
		"bin 40755 2026-03-04T05:06:08Z ",
		"bin/detect 100755 2026-03-04T05:06:08Z #!/bin/sh\n",
		"lib/link 120777 2026-03-04T05:06:08Z ../bin/detect",
		"VERSION 100644 2026-03-04T05:06:08Z 1.2.3\n",
		"empty 100600 2026-03-04T05:06:08Z ",
		"suid 104755 2026-03-04T05:06:08Z 300000 bytes",
		"\xff\xfe 100644 2026-03-04T05:06:08Z no text",
	}
	got, err := list(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// What Python writes, to a file it can seek in (no sizes behind the contents)
// and with zip64 records for each file.
func TestReadsPythons(t *testing.T) {
	name := filepath.Join(t.TempDir(), "p.zip")
	script := `
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as z:
    i = zipfile.ZipInfo("bin/run", (2026, 3, 4, 5, 6, 8))
    i.external_attr, i.create_system = 0o100755 << 16, 3
    with z.open(i, "w", force_zip64=True) as f: f.write(b"#!")
    i = zipfile.ZipInfo("plain", (1980, 1, 1, 0, 0, 0))
    i.external_attr, i.create_system = 0, 0
    z.writestr(i, "x")
    i = zipfile.ZipInfo("plaindir/", (1980, 1, 1, 0, 0, 0))
    i.external_attr, i.create_system = 0x10, 0
    z.writestr(i, "")
    z.comment = b"a comment"
`
	if out, err := exec.Command("python3", "-c", script, name).CombinedOutput(); err != nil { // #nosec G204
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	got, err := list(b)
	want := []string{
		"bin/run 100755 2026-03-04T05:06:08Z #!",
		"plain 100644 1980-01-01T00:00:00Z x",
		"plaindir 40755 1980-01-01T00:00:00Z ",
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(err, d)
	}
}

// Over 65,535 files an archive has zip64 records at its end.
func TestReadsZip64(t *testing.T) {
	entries := make([]put, 66_000)
	for i := range entries {
		entries[i] = put{name: fmt.Sprintf("f%05d", i), change: func(h *zip.FileHeader) { h.Method = zip.Store }}
	}
	b := pack(t, entries...)
	got, err := list(b)
	if err != nil || len(got) != len(entries) || !strings.HasPrefix(got[65_999], "f65999 100644") {
		t.Fatalf("%d files, %v", len(got), err)
	}
	for name, at := range map[string]int{"count": 32, "size": 40, "place": 48, "disk": 16, "own size": 4} {
		record := bytes.LastIndex(b, []byte("PK\x06\x06"))
		c := slices.Clone(b)
		c[record+at]++
		if _, err := list(c); err == nil {
			t.Errorf("another %s in the zip64 record is not noticed", name)
		}
	}
	c := slices.Clone(b)
	end := len(c) - 22
	binary.LittleEndian.PutUint16(c[end+10:], 7) // other readers would list seven files
	if _, err := list(c); !errors.Is(err, zipfile.ErrHostile) {
		t.Errorf("two records that contradict each other: %v", err)
	}
}

// sized is a zip whose one file says its size in front of it.
func sized(t testing.TB, name, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.CreateRaw(&zip.FileHeader{
		Name: name, Method: zip.Store, CRC32: crc(text),
		UncompressedSize64: uint64(len(text)), CompressedSize64: uint64(len(text)), CreatorVersion: 3 << 8, ExternalAttrs: 0o100644 << 16,
	})
	if err == nil {
		_, err = io.WriteString(f, text)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRefuses(t *testing.T) {
	type edit = func([]byte) []byte
	le := binary.LittleEndian
	central := func(b []byte) []byte { return b[bytes.Index(b, []byte("PK\x01\x02")):] }
	end := func(b []byte) []byte { return b[bytes.LastIndex(b, []byte("PK\x05\x06")):] }
	one := sized(t, "name", "text")
	two := pack(t, put{name: "a", text: "first"}, put{name: "b", text: "second"})
	patch := func(fn func([]byte)) edit { return func(b []byte) []byte { fn(b); return b } }
	resize := func(b []byte, size uint32) { // in the list and behind the content
		le.PutUint32(central(b)[24:], size)
		le.PutUint32(b[bytes.Index(b, []byte("PK\x07\x08"))+12:], size)
	}
	named := func(names ...string) []byte {
		var all []put
		for _, n := range names {
			mode := fs.FileMode(0o644)
			if strings.HasSuffix(n, "/") {
				mode = 0o755 | fs.ModeDir
			}
			all = append(all, put{name: n, text: "x", mode: mode})
		}
		return pack(t, all...)
	}
	for name, c := range map[string]struct {
		zip  []byte
		edit edit
		want error
		text string
	}{
		"empty":             {nil, nil, zipfile.ErrFormat, "too few"},
		"a tar":             {make([]byte, 10240), nil, zipfile.ErrFormat, "a zip?"},
		"cut off":           {two, func(b []byte) []byte { return b[:len(b)-5] }, zipfile.ErrFormat, "record at its end"},
		"something before":  {two, func(b []byte) []byte { return append([]byte("#!/bin/sh\n"), b...) }, zipfile.ErrFormat, "in front of"},
		"climbing":          {named("../../etc/passwd"), nil, zipfile.ErrHostile, "climbs"},
		"climbing inside":   {named("a/../../b"), nil, zipfile.ErrHostile, "climbs"},
		"absolute":          {named("/etc/passwd"), nil, zipfile.ErrHostile, "absolute"},
		"dot":               {named("./a"), nil, zipfile.ErrHostile, `"."`},
		"double slash":      {named("a//b"), nil, zipfile.ErrHostile, "empty part"},
		"nameless":          {sized(t, "", ""), nil, zipfile.ErrHostile, "empty part"},
		"zero byte":         {named("a\x00b"), nil, zipfile.ErrHostile, "zero byte"},
		"long":              {named(strings.Repeat("d/", 2100) + "x"), nil, zipfile.ErrHostile, "4095"},
		"twice":             {named("a", "b", "a"), nil, zipfile.ErrHostile, "twice"},
		"file and dir":      {named("a", "a/"), nil, zipfile.ErrHostile, "twice"},
		"below a file":      {named("a/b/c", "a"), nil, zipfile.ErrHostile, "no directory"},
		"through a link":    {pack(t, put{"l", "/etc", 0o777 | fs.ModeSymlink, nil}, put{name: "l/passwd", text: "x"}), nil, zipfile.ErrHostile, "no directory"},
		"long link":         {pack(t, put{"l", strings.Repeat("x", 5000), 0o777 | fs.ModeSymlink, nil}), nil, zipfile.ErrHostile, "target"},
		"empty link":        {pack(t, put{"l", "", 0o777 | fs.ModeSymlink, nil}), nil, zipfile.ErrHostile, "target"},
		"device":            {pack(t, put{"d", "", 0o644 | fs.ModeDevice, nil}), nil, zipfile.ErrUnsupported, "device"},
		"dir that is none":  {pack(t, put{name: "d/", mode: 0o644, change: func(h *zip.FileHeader) { h.ExternalAttrs = 0o100644 << 16 }}), nil, zipfile.ErrHostile, "by its name"},
		"backslash":         {pack(t, put{name: `bin\run`, text: "x", change: func(h *zip.FileHeader) { h.CreatorVersion, h.ExternalAttrs = 0, 0 }}), nil, zipfile.ErrUnsupported, `"\"`},
		"encrypted":         {one, patch(func(b []byte) { b[6] |= 1; central(b)[8] |= 1 }), zipfile.ErrUnsupported, "encrypted"},
		"method":            {one, patch(func(b []byte) { b[8] = 12; central(b)[10] = 12 }), zipfile.ErrUnsupported, "method 12"},
		"stored, other":     {one, patch(func(b []byte) { central(b)[24]++ }), zipfile.ErrHostile, "stored as"},
		"other name":        {one, patch(func(b []byte) { b[30] = 'N' }), zipfile.ErrHostile, "something else"},
		"other length":      {one, patch(func(b []byte) { b[26]++ }), zipfile.ErrHostile, ""},
		"other method":      {one, patch(func(b []byte) { b[8] = 8 }), zipfile.ErrHostile, "something else"},
		"other size":        {one, patch(func(b []byte) { b[22]++ }), zipfile.ErrHostile, "something else"},
		"other sum":         {one, patch(func(b []byte) { b[14]++ }), zipfile.ErrHostile, "something else"},
		"secret in front":   {one, patch(func(b []byte) { b[6] |= 1 }), zipfile.ErrHostile, "something else"},
		"no header":         {one, patch(func(b []byte) { b[0] = 'Q' }), zipfile.ErrFormat, "no header"},
		"other content":     {one, patch(func(b []byte) { b[34] ^= 1 }), zipfile.ErrFormat, "checksum"},
		"other behind":      {two, patch(func(b []byte) { b[bytes.Index(b, []byte("PK\x07\x08"))+4]++ }), zipfile.ErrHostile, "behind it"},
		"nothing behind":    {one, patch(func(b []byte) { b[6] |= 8 }), zipfile.ErrHostile, "behind it"},
		"overlap":           {two, patch(func(b []byte) { c := central(b); le.PutUint32(c[20:], le.Uint32(c[20:])+60) }), zipfile.ErrHostile, "overlaps"},
		"same place":        {two, patch(func(b []byte) { c := central(central(b)[4:]); le.PutUint32(c[42:], 0) }), zipfile.ErrHostile, "overlaps"},
		"beyond the list":   {two, patch(func(b []byte) { le.PutUint32(central(b)[42:], uint32(len(b)-10)) }), zipfile.ErrHostile, "overlaps"},
		"list cut":          {two, patch(func(b []byte) { central(b)[28] = 200 }), zipfile.ErrFormat, "list of files"},
		"list longer":       {two, patch(func(b []byte) { e := end(b); e[8], e[10] = 1, 1 }), zipfile.ErrFormat, "follow its list"},
		"list shorter":      {two, patch(func(b []byte) { e := end(b); e[8], e[10] = 3, 3 }), zipfile.ErrFormat, "list"},
		"split":             {two, patch(func(b []byte) { end(b)[4] = 1 }), zipfile.ErrUnsupported, "split"},
		"zip64 is missing":  {one, patch(func(b []byte) { le.PutUint32(central(b)[42:], 0xffffffff) }), zipfile.ErrFormat, "64 bits"},
		"zip in a comment":  {two, func(b []byte) []byte { e := end(b); le.PutUint16(e[20:], uint16(len(one))); return append(b, one...) }, zipfile.ErrHostile, "two ways"},
		"longer than said":  {pack(t, put{name: "a", text: strings.Repeat("y", 1000)}), patch(func(b []byte) { resize(b, 10) }), zipfile.ErrHostile, "longer"},
		"shorter than said": {pack(t, put{name: "a", text: strings.Repeat("y", 1000)}), patch(func(b []byte) { resize(b, 2000) }), zipfile.ErrFormat, "1000 bytes where 2000"},
		"damaged":           {pack(t, put{name: "a", text: random(5000)}), patch(func(b []byte) { clear(b[40:90]) }), zipfile.ErrFormat, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := slices.Clone(c.zip)
			if _, err := list(b); c.edit != nil && err != nil {
				t.Fatalf("refused before it was broken: %v", err)
			}
			if c.edit != nil {
				b = c.edit(b)
			}
			if _, err := list(b); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %v with %q", err, c.want, c.text)
			}
		})
	}
}

func random(n int) string {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.IntN(64))
	}
	return string(b)
}

// A bomb is refused by what it says of itself, before any of it is inflated.
func TestLimits(t *testing.T) {
	b := pack(t, put{name: "a", text: strings.Repeat("y", 10_000)}, put{name: "b", text: "x"})
	big := slices.Clone(b)
	c := bytes.Index(big, []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint32(big[c+24:], 300<<20)
	for name, c := range map[string]struct {
		zip    []byte
		limits zipfile.Limits
		text   string
	}{
		"files": {b, zipfile.Limits{MaxFiles: 1}, "2 files, more than 1"},
		"bytes": {b, zipfile.Limits{MaxBytes: 10_000}, "more than 10000 bytes"},
		"ratio": {big, zipfile.Limits{}, "bomb"},
	} {
		_, err := zipfile.Open(bytes.NewReader(c.zip), int64(len(c.zip)), c.limits)
		if !errors.Is(err, zipfile.ErrTooLarge) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := zipfile.Open(bytes.NewReader(b), int64(len(b)), zipfile.Limits{MaxFiles: 2, MaxBytes: 10_001}); err != nil {
		t.Error(err)
	}
}

// Whatever is accepted reads as Go's own package reads it.
func FuzzOpen(f *testing.F) {
	f.Add(pack(f, put{"d/", "", 0o755 | fs.ModeDir, nil}, put{name: "d/a", text: "first"}, put{"l", "d/a", 0o777 | fs.ModeSymlink, nil}))
	f.Add(sized(f, "name", "text"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := zipfile.Limits{MaxBytes: 1 << 20, MaxFiles: 100}
		a, err := zipfile.Open(bytes.NewReader(b), int64(len(b)), l)
		if err != nil {
			return
		}
		z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
			t.Fatalf("accepted, but Go says %v", err)
		}
		if len(z.File) != len(a.Files) {
			t.Fatalf("%d files, Go has %d", len(a.Files), len(z.File))
		}
		r := a.NewReader()
		for i := range a.Files {
			got, err := io.ReadAll(r.Open(&a.Files[i]))
			if err != nil {
				continue
			}
			at := slices.IndexFunc(z.File, func(f *zip.File) bool { return strings.TrimSuffix(f.Name, "/") == a.Files[i].Name })
			if at < 0 {
				t.Fatalf("Go has no %q", a.Files[i].Name)
			}
			in, err := z.File[at].Open()
			if err != nil {
				t.Fatal(err)
			}
			if want, err := io.ReadAll(in); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%q: %q, Go has %q, %v", a.Files[i].Name, got, want, err)
			}
		}
	})
}

func crc(text string) uint32 { return crc32.ChecksumIEEE([]byte(text)) }
