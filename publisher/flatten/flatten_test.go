package flatten_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/flatten"
)

// blob is a layer in memory that counts how often it was opened.
type blob struct {
	data  []byte
	opens int
	fail  error // in io.EOF's place
}

func (b *blob) Open(context.Context) (io.ReadCloser, error) {
	b.opens++
	var r io.Reader = bytes.NewReader(b.data)
	if b.fail != nil {
		r = io.MultiReader(r, failing{b.fail})
	}
	return io.NopCloser(r), nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// sink remembers what it was given.
type sink map[object.ContentID]string

func (s sink) Take(_ context.Context, size int64, r io.Reader, named func(object.ContentID)) error {
	b, err := io.ReadAll(io.LimitReader(r, size))
	if err != nil {
		return fmt.Errorf("ingest: %w", err)
	}
	id := object.ContentOf(b)
	s[id] = string(b)
	named(id)
	return nil
}

func (sink) Settle() error { return nil }

func (s sink) texts() []string { return slices.Sorted(maps.Values(s)) }

// e makes one header: a path ending in / is a directory, "a -> b" a symbolic
// and "a => b" a hard link, "a = text" a file.
func e(spec string) *tar.Header {
	h := &tar.Header{ModTime: time.Unix(1, 0), Mode: 0o644, Typeflag: tar.TypeReg, Format: tar.FormatPAX}
	switch {
	case strings.Contains(spec, " -> "):
		h.Typeflag = tar.TypeSymlink
		h.Name, h.Linkname, _ = strings.Cut(spec, " -> ")
	case strings.Contains(spec, " => "):
		h.Typeflag = tar.TypeLink
		h.Name, h.Linkname, _ = strings.Cut(spec, " => ")
	case strings.Contains(spec, " = "):
		name, text, _ := strings.Cut(spec, " = ")
		h.Name, h.Size = name, int64(len(text))
		h.PAXRecords = map[string]string{"ROOTSTOCK.text": text} // where pack finds it
	case strings.HasSuffix(spec, "/"):
		h.Typeflag, h.Mode, h.Name = tar.TypeDir, 0o755, spec
	default:
		h.Name = spec
	}
	return h
}

func pack(t testing.TB, headers ...*tar.Header) *blob {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		text := h.PAXRecords["ROOTSTOCK.text"]
		delete(h.PAXRecords, "ROOTSTOCK.text")
		if err := w.WriteHeader(h); err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &blob{data: b.Bytes()}
}

// layer packs entries given as text.
func layer(t testing.TB, specs ...string) *blob {
	t.Helper()
	hs := make([]*tar.Header, len(specs))
	for i, s := range specs {
		hs[i] = e(s)
	}
	return pack(t, hs...)
}

func run(layers ...*blob) (*flatten.Tree, sink, error) {
	in := sink{}
	tree, err := flatten.Flatten(context.Background(), layers, in, flatten.Options{})
	return tree, in, err
}

// show prints a tree in the spelling of e, the link group behind a #.
func show(tree *flatten.Tree, in sink) string {
	var out []string
	for _, x := range tree.Entries() {
		s := x.Path
		switch x.Mode & 0o170000 {
		case 0o040000:
			s += "/"
		case 0o120000:
			s += " -> " + x.Target
		case 0o100000:
			s += " = " + in[x.Content]
		}
		if x.Link != 0 {
			s += fmt.Sprintf("#%d", x.Link)
		}
		out = append(out, s)
	}
	return strings.Join(out, "\n")
}

func TestFlatten(t *testing.T) {
	for name, tc := range map[string]struct {
		layers [][]string
		want   []string // without the root
	}{
		"canonical order":        {[][]string{{"b = 2", "a.b = 3", "a/", "a/z = 1", "a-b = 4"}}, []string{"a/", "a/z = 1", "a-b = 4", "a.b = 3", "b = 2"}},
		"cleaned names":          {[][]string{{"./", "./a/", "./a//b = 1", "./././c = 2"}}, []string{"a/", "a/b = 1", "c = 2"}},
		"root with slash":        {[][]string{{"/", "a = 1"}}, []string{"a = 1"}},
		"implied":                {[][]string{{"x/y/z = 1"}}, []string{"x/", "x/y/", "x/y/z = 1"}},
		"whiteout":               {[][]string{{"a = 1", "b = 2", "d/", "d/e = 3"}, {".wh.a", ".wh.d"}}, []string{"b = 2"}},
		"whiteout of nothing":    {[][]string{{"a = 1"}, {"x/.wh.y", ".wh.z"}}, []string{"a = 1"}},
		"whiteout spares own":    {[][]string{{"a = 1"}, {"a = 2", ".wh.a"}}, []string{"a = 2"}},
		"opaque first":           {[][]string{{"d/", "d/a = 1", "d/s/", "d/s/b = 2"}, {"d/", "d/.wh..wh..opq", "d/c = 3"}}, []string{"d/", "d/c = 3"}},
		"opaque last":            {[][]string{{"d/", "d/a = 1"}, {"d/", "d/c = 3", "d/.wh..wh..opq"}}, []string{"d/", "d/c = 3"}},
		"opaque root":            {[][]string{{"a = 1"}, {".wh..wh..opq", "b = 2"}}, []string{"b = 2"}},
		"dir to file":            {[][]string{{"d/", "d/a = 1"}, {"d = 2"}}, []string{"d = 2"}},
		"dir to file and back":   {[][]string{{"d/", "d/a = 1"}, {"d = 2"}, {"d/", "d/b = 3"}}, []string{"d/", "d/b = 3"}},
		"dir kept":               {[][]string{{"d/", "d/a = 1"}, {"d/", "d/b = 2"}}, []string{"d/", "d/a = 1", "d/b = 2"}},
		"dir for symlink":        {[][]string{{"u/", "u/a = 1", "d -> u"}, {"d/", "d/b = 2"}}, []string{"d/", "d/b = 2", "u/", "u/a = 1"}},
		"duplicate file":         {[][]string{{"a = 1", "a = 2"}}, []string{"a = 2"}},
		"duplicate dir":          {[][]string{{"d/", "d/a = 1", "d/"}}, []string{"d/", "d/a = 1"}},
		"file over dir, one":     {[][]string{{"d/", "d/a = 1", "d = 2"}}, []string{"d = 2"}},
		"link":                   {[][]string{{"a = 1", "d/b => a"}}, []string{"a = 1#1", "d/", "d/b = 1#1"}},
		"link to link":           {[][]string{{"a = 1", "b => a", "c => ./b"}}, []string{"a = 1#1", "b = 1#1", "c = 1#1"}},
		"link to symlink":        {[][]string{{"s -> nowhere", "t => s"}}, []string{"s -> nowhere#1", "t -> nowhere#1"}},
		"link to lower":          {[][]string{{"a = 1"}, {"b => a"}}, []string{"a = 1#1", "b = 1#1"}},
		"link, target replaced":  {[][]string{{"a = 1", "b => a", "a = 2"}}, []string{"a = 2", "b = 1"}},
		"link, target above":     {[][]string{{"a = 1", "b => a"}, {"a = 2"}}, []string{"a = 2", "b = 1"}},
		"link then whiteout":     {[][]string{{"a = 1"}, {"b => a", ".wh.a"}}, []string{"b = 1"}},
		"link out of gone dir":   {[][]string{{"d/", "d/e/", "d/e/a = 1"}, {"b => d/e/a", ".wh.d"}}, []string{"b = 1"}},
		"link to itself":         {[][]string{{"a = 1"}, {"a => a"}}, []string{"a = 1"}},
		"groups by appearance":   {[][]string{{"z = 1", "y = 2", "b => y", "a => z"}}, []string{"a = 1#1", "b = 2#2", "y = 2#2", "z = 1#1"}},
		"usrmerge":               {[][]string{{"usr/", "usr/lib/", "lib -> usr/lib"}, {"lib/foo = 1", "lib/.wh.gone"}}, []string{"lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/foo = 1"}},
		"whiteout by symlink":    {[][]string{{"usr/", "usr/lib/", "usr/lib/a = 1", "lib -> usr/lib"}, {"lib/.wh.a"}}, []string{"lib -> usr/lib", "usr/", "usr/lib/"}},
		"whiteout in new dir":    {[][]string{{"usr/", "usr/a = 1", "lib -> usr"}, {"lib/", "lib/.wh.a"}}, []string{"lib/", "usr/", "usr/a = 1"}},
		"absolute symlink":       {[][]string{{"usr/", "l -> /usr"}, {"l/foo = 1"}}, []string{"l -> /usr", "usr/", "usr/foo = 1"}},
		"absolute, deeper":       {[][]string{{"usr/", "d/", "d/l -> /usr"}, {"d/l/foo = 1"}}, []string{"d/", "d/l -> /usr", "usr/", "usr/foo = 1"}},
		"climbing symlink":       {[][]string{{"d/", "d/l -> ../../../../etc"}, {"d/l/passwd = 1"}}, []string{"d/", "d/l -> ../../../../etc", "etc/", "etc/passwd = 1"}},
		"symlink chain":          {[][]string{{"a -> b", "b -> c/d", "c/", "c/d -> ../e", "a/f = 1", "g => a/f"}}, []string{"a -> b", "b -> c/d", "c/", "c/d -> ../e", "e/", "e/f = 1#1", "g = 1#1"}},
		"symlink text kept":      {[][]string{{"s -> ../../x"}}, []string{"s -> ../../x"}},
		"not UTF-8":              {[][]string{{"\xff\xfe = 1"}}, []string{"\xff\xfe = 1"}},
		"aufs notes":             {[][]string{{".wh..wh.plnk/", ".wh..wh.plnk/1.2 = x", "a = 1"}}, []string{"a = 1"}},
		"empty file":             {[][]string{{"a"}}, []string{"a = "}},
		"marker whited out":      {[][]string{{"d/.cvmfscatalog = x"}, {"d/.wh..cvmfscatalog"}}, []string{"d/"}},
		"long name":              {[][]string{{strings.Repeat("n", 255) + " = 1"}}, []string{strings.Repeat("n", 255) + " = 1"}},
		"no layer holds nothing": {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var layers []*blob
			for _, l := range tc.layers {
				layers = append(layers, layer(t, l...))
			}
			tree, in, err := run(layers...)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := show(tree, in), strings.Join(append([]string{"/"}, tc.want...), "\n"); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if len(tree.Entries()) != tree.Totals.Entries {
				t.Errorf("total of %d entries, %d listed", tree.Totals.Entries, len(tree.Entries()))
			}
		})
	}
}

func TestMetadata(t *testing.T) {
	at := time.Unix(-12345, 678_900_001)
	tree, in, err := run(pack(t,
		&tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 5, ModTime: at, Format: tar.FormatPAX},
		&tar.Header{Name: "cap", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 3_000_000, Gid: 4_294_967_294, ModTime: at, Format: tar.FormatPAX, PAXRecords: map[string]string{
			"SCHILY.xattr.user.z": "2", "SCHILY.xattr.security.capability": "\x01\x00\x00\x02", "SCHILY.xattr.user.empty": "",
		}},
		&tar.Header{Name: "dev", Typeflag: tar.TypeBlock, Mode: 0o660, Devmajor: 259, Devminor: 300_000, ModTime: at, Format: tar.FormatGNU},
		&tar.Header{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o2600},
		&tar.Header{Name: "implied/" + strings.Repeat("x", 200) + "/" + strings.Repeat("y", 200), Typeflag: tar.TypeReg, Format: tar.FormatGNU},
		&tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Mode: 0o644, Linkname: strings.Repeat("t", 4095)},
		&tar.Header{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3},
		&tar.Header{Name: "sock", Typeflag: tar.TypeReg, Mode: 0o140755},
	))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]imagemeta.Entry{}
	for _, x := range tree.Entries() {
		got[x.Path] = x
	}
	want := imagemeta.Entry{
		Path: "cap", Mode: 0o104755, UID: 3_000_000, GID: 4_294_967_294, MTime: -12345, Nsec: 678_900_001, Content: object.EmptyContent,
		XAttrs: []imagemeta.XAttr{{Name: "security.capability", Value: []byte{1, 0, 0, 2}}, {Name: "user.empty"}, {Name: "user.z", Value: []byte("2")}},
	}
	if fmt.Sprint(got["cap"]) != fmt.Sprint(want) {
		t.Errorf("got %v\nwant %v", got["cap"], want)
	}
	if x := got[""]; x.Mode != 0o041777 || x.UID != 5 || x.MTime != -12345 || x.Nsec != 678_900_001 {
		t.Errorf("root %v", x)
	}
	if x := got["dev"]; x.Mode != 0o060660 || x.Major != 259 || x.Minor != 300_000 {
		t.Errorf("dev %v", x)
	}
	if x := got["null"]; x.Mode != 0o020666 || x.Major != 1 || x.Minor != 3 {
		t.Errorf("null %v", x)
	}
	if x := got["fifo"]; x.Mode != 0o012600 {
		t.Errorf("fifo %v", x)
	}
	if x := got["implied"]; x.Mode != 0o040755 || x.UID != 0 || x.MTime != 0 {
		t.Errorf("implied %v", x)
	}
	if x := got["link"]; x.Mode != 0o120777 || len(x.Target) != 4095 {
		t.Errorf("link %v", x)
	}
	if len(got["implied/"+strings.Repeat("x", 200)+"/"+strings.Repeat("y", 200)].Path) != 409 {
		t.Error("GNU long name lost")
	}
	if _, there := got["sock"]; there || len(tree.Notes) != 1 || tree.Notes[0].Path != "sock" {
		t.Errorf("socket: there %v, notes %v", there, tree.Notes)
	}
	if _, there := in[object.EmptyContent]; !there {
		t.Error("the empty content was not ingested")
	}
}

// What upper layers hide is not ingested, unless a link keeps it alive, and a
// layer is read again only for that.
func TestHiddenContentIsSkipped(t *testing.T) {
	for name, tc := range map[string]struct {
		layers  [][]string
		content []string
		again   bool
	}{
		"replaced":        {[][]string{{"a = old", "b = kept"}, {"a = new"}}, []string{"kept", "new"}, false},
		"whited out":      {[][]string{{"d/", "d/a = old", "b = kept"}, {".wh.d"}}, []string{"kept"}, false},
		"opaque":          {[][]string{{"d/", "d/a = old"}, {"d/.wh..wh..opq", "d/n = new"}}, []string{"new"}, false},
		"file over dir":   {[][]string{{"d/", "d/a = old"}, {"d = new"}}, []string{"new"}, false},
		"dir over file":   {[][]string{{"d = old"}, {"d/"}}, nil, false},
		"dir over dir":    {[][]string{{"d/", "d/a = kept"}, {"d/"}}, []string{"kept"}, false},
		"by symlink":      {[][]string{{"d/", "d/a = old"}, {"d -> e"}}, nil, false},
		"three layers":    {[][]string{{"a = 1"}, {"a = 2"}, {"a = 3"}}, []string{"3"}, false},
		"link lives on":   {[][]string{{"a = 1", "b => a"}, {"a = 2"}}, []string{"1", "2"}, true},
		"link to replace": {[][]string{{"a = 1", "c = 7"}, {"b => a"}, {"a = 2", "c = 8"}}, []string{"1", "2", "8"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var layers []*blob
			for _, l := range tc.layers {
				layers = append(layers, layer(t, l...))
			}
			tree, in, err := run(layers...)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(in.texts(), tc.content) {
				t.Errorf("ingested %q, want %q", in.texts(), tc.content)
			}
			if again := layers[0].opens == 2; again != tc.again {
				t.Errorf("lowest layer opened %d times", layers[0].opens)
			}
			for _, x := range tree.Entries() {
				if x.Mode&0o170000 == 0o100000 && x.Content.IsZero() {
					t.Errorf("%s has no content", x.Path)
				}
			}
		})
	}
}

func TestRefused(t *testing.T) {
	over := func(change func(*tar.Header)) *tar.Header {
		h := e("f = text")
		change(h)
		return h
	}
	for name, tc := range map[string]struct {
		headers []*tar.Header
		kind    error
		says    string
	}{
		"climbing":          {[]*tar.Header{e("../a = 1")}, flatten.ErrHostile, `climbs`},
		"climbing inside":   {[]*tar.Header{e("a/../../b = 1")}, flatten.ErrHostile, `climbs`},
		"absolute":          {[]*tar.Header{e("/etc/passwd = 1")}, flatten.ErrHostile, `absolute`},
		"absolute link":     {[]*tar.Header{e("a = 1"), e("b => /a")}, flatten.ErrHostile, `absolute`},
		"climbing link":     {[]*tar.Header{e("b => ../a")}, flatten.ErrHostile, `hard link to "../a"`},
		"missing target":    {[]*tar.Header{e("b => gone")}, flatten.ErrConflict, `"b": entries contradict each other: hard link to "gone"`},
		"later target":      {[]*tar.Header{e("b => a"), e("a = 1")}, flatten.ErrConflict, `"a"`},
		"link to dir":       {[]*tar.Header{e("d/"), e("b => d")}, flatten.ErrConflict, `directory`},
		"file as dir":       {[]*tar.Header{e("a = 1"), e("a/b = 2")}, flatten.ErrConflict, `used as a directory`},
		"loop":              {[]*tar.Header{e("a -> b"), e("b -> a"), e("a/c = 1")}, flatten.ErrHostile, `symbolic links`},
		"loop on itself":    {[]*tar.Header{e("a -> a/a"), e("a/c = 1")}, flatten.ErrHostile, `symbolic links`},
		"root as file":      {[]*tar.Header{over(func(h *tar.Header) { h.Name = "." })}, flatten.ErrConflict, `root`},
		"long component":    {[]*tar.Header{e(strings.Repeat("n", 256) + " = 1")}, flatten.ErrHostile, `255`},
		"long path":         {[]*tar.Header{e(strings.Repeat("nnn/", 1024) + "n = 1")}, flatten.ErrHostile, `4095`},
		"long target":       {[]*tar.Header{e("s -> " + strings.Repeat("t", 4096))}, flatten.ErrHostile, `4095`},
		"path via link":     {[]*tar.Header{e(strings.Repeat("n/", 2000)), e("s -> " + strings.Repeat("n/", 2000)), e("s/" + strings.Repeat("m/", 200) + "f = 1")}, flatten.ErrHostile, `4095`},
		"whiteout of ..":    {[]*tar.Header{e("d/.wh...")}, flatten.ErrHostile, `whiteout`},
		"whiteout of empty": {[]*tar.Header{e("d/.wh.")}, flatten.ErrHostile, `whiteout`},
		"catalog marker":    {[]*tar.Header{e("d/.cvmfscatalog = ")}, flatten.ErrUnsupported, `"d/.cvmfscatalog"`},
		"auto marker":       {[]*tar.Header{e(".cvmfsautocatalog = ")}, flatten.ErrUnsupported, `CernVM-FS`},
		"overlay whiteout":  {[]*tar.Header{{Name: "w", Typeflag: tar.TypeChar}}, flatten.ErrUnsupported, `0:0`},
		"overlay xattr":     {[]*tar.Header{over(func(h *tar.Header) { h.PAXRecords["SCHILY.xattr.trusted.overlay.opaque"] = "y" })}, flatten.ErrUnsupported, `trusted.overlay.opaque`},
		"user overlay":      {[]*tar.Header{over(func(h *tar.Header) { h.PAXRecords["SCHILY.xattr.user.overlay.redirect"] = "y" })}, flatten.ErrUnsupported, `user.overlay`},
		"long xattr":        {[]*tar.Header{over(func(h *tar.Header) { h.PAXRecords["SCHILY.xattr.user.x"] = strings.Repeat("x", 65536) })}, flatten.ErrHostile, `65535`},
		"long xattr name":   {[]*tar.Header{over(func(h *tar.Header) { h.PAXRecords["SCHILY.xattr.user."+strings.Repeat("x", 251)] = "1" })}, flatten.ErrHostile, `255`},
		"owner":             {[]*tar.Header{over(func(h *tar.Header) { h.Uid = 4_294_967_295 })}, flatten.ErrHostile, `owner`},
		"device number":     {[]*tar.Header{{Name: "d", Typeflag: tar.TypeBlock, Devmajor: 4096, Devminor: 1, Format: tar.FormatGNU}}, flatten.ErrHostile, `4096`},
		"unknown type":      {[]*tar.Header{{Name: "d", Typeflag: 'Z'}}, flatten.ErrUnsupported, `'Z'`},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := run(pack(t, tc.headers...))
			if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.says) || !strings.HasPrefix(err.Error(), "layer 1: ") && tc.kind != flatten.ErrUnsupported && name != "path via link" {
				t.Errorf("got %v", err)
			}
		})
	}
}
