package profile_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/imagemeta/profile"
	"github.com/rootstock-cf/rootstock/object"
)

func id(text string) object.ContentID { return object.ContentOf([]byte(text)) }

func opens(text ...string) (list []profile.Open) {
	for i, t := range text {
		list = append(list, profile.Open{Content: id(t), Millis: int64(10 * i)})
	}
	return list
}

func ids(text ...string) (list []object.ContentID) {
	for _, t := range text {
		list = append(list, id(t))
	}
	return list
}

func TestDocumentRoundTrip(t *testing.T) {
	d := profile.Document{Tree: id("tree"), Profiles: []profile.Profile{
		{Process: "", Opens: opens("x")}, {Process: "web", Opens: opens("a", "b")},
	}}
	raw, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	got, err := profile.Read(bytes.NewReader(append(raw, raw...)))
	if err != nil || len(got) != 2 || !got[0].Equal(&d) || !got[1].Equal(&d) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestReadRefuses(t *testing.T) {
	tree, content := id("tree").String(), id("c").String()
	one := func(version int, tree, process, content string, ms int) string {
		return fmt.Sprintf(`{"version":%d,"tree":%q,"profiles":[{"process":%q,"opens":[{"content":%q,"ms":%d}]}]}`, version, tree, process, content, ms)
	}
	if _, err := profile.Read(strings.NewReader(one(1, tree, "web", content, 1))); err != nil {
		t.Fatal(err)
	}
	for name, doc := range map[string]string{
		"version":       one(2, tree, "web", content, 1),
		"tree":          one(1, tree[1:], "web", content, 1),
		"command line":  one(1, tree, "java -Dpassword=x", content, 1),
		"long process":  one(1, tree, strings.Repeat("w", 65), content, 1),
		"content":       one(1, tree, "web", "../../x", 1),
		"negative time": one(1, tree, "web", content, -1),
		"twice":         `{"version":1,"tree":"` + tree + `","profiles":[{"process":"a"},{"process":"a"}]}`,
		"cut short":     one(1, tree, "web", content, 1)[:40],
		"too many":      `{"version":1,"tree":"` + tree + `","profiles":[{"opens":[` + strings.Repeat(`{"content":"`+content+`"},`, 4096) + `{"content":"` + content + `"}]}]}`,
		"too long":      strings.Repeat(" ", profile.MaxDocument) + one(1, tree, "web", content, 1),
	} {
		if _, err := profile.Read(strings.NewReader(doc)); !errors.Is(err, profile.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMergeAndOrder(t *testing.T) {
	d := profile.Document{Tree: id("tree"), Profiles: []profile.Profile{{Process: "web", Opens: opens("a", "b")}}}
	before := d
	d.Merge(profile.Document{Profiles: []profile.Profile{
		{Process: "web", Opens: []profile.Open{{Content: id("b"), Millis: 3}, {Content: id("c"), Millis: 20}, {Content: id("a"), Millis: 7}}},
		{Process: "task", Opens: []profile.Open{{Content: id("t"), Millis: 1}}},
	}})
	if len(before.Profiles) != 1 || len(before.Order()) != 2 {
		t.Errorf("a copy changed: %+v", before)
	}
	if len(d.Profiles) != 2 || d.Profiles[0].Process != "task" {
		t.Fatalf("%+v", d.Profiles)
	}
	want := []profile.Open{{Content: id("a"), Millis: 0}, {Content: id("b"), Millis: 3}, {Content: id("c"), Millis: 20}}
	if !slices.Equal(d.Profiles[1].Opens, want) {
		t.Errorf("merged %v", d.Profiles[1].Opens)
	}
	if got := d.Order(); !slices.Equal(got, ids("a", "t", "b", "c")) {
		t.Errorf("order %v", got)
	}
	d.Keep(func(x object.ContentID) bool { return x == id("t") })
	if got := d.Order(); len(d.Profiles) != 1 || !slices.Equal(got, ids("t")) {
		t.Errorf("kept %v", got)
	}
}

func TestInheritByPath(t *testing.T) {
	file := func(path, content string) imagemeta.Entry {
		return imagemeta.Entry{Path: path, Mode: catalog.ModeRegular | 0o644, Size: int64(len(content)), Content: id(content)}
	}
	before := []imagemeta.Entry{file("a", "a1"), file("b", "b1"), file("gone", "g"), file("same1", "s"), file("same2", "s")}
	after := []imagemeta.Entry{file("a", "a2"), file("b", "b1"), file("empty", ""), file("same1", "s1"), file("same2", "s2")}
	d := profile.Document{Tree: id("1"), Profiles: []profile.Profile{{Process: "web", Opens: opens("g", "b1", "a1", "s")}}}
	got := d.Inherit(before, id("2"), after)
	if got.Tree != id("2") || !slices.Equal(got.Order()[:2], ids("b1", "a2")) || len(got.Order()) != 4 {
		t.Errorf("inherited %v", got)
	}
	for _, want := range ids("s1", "s2") {
		if !slices.Contains(got.Order(), want) {
			t.Error("a content that two files had became two, and one is missing")
		}
	}
}

func pack(t *testing.T, rows ...profile.Packed) []byte {
	t.Helper()
	b, err := profile.AppendPack(nil, rows)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readPack(b []byte) (order []object.ContentID, got map[object.ContentID]string, err error) {
	got = map[object.ContentID]string{}
	err = profile.ReadPack(bytes.NewReader(b), int64(len(b)), func(ids []object.ContentID, _ []int) { order = ids },
		func(id object.ContentID, data []byte) error { got[id] = string(data); return nil })
	return order, got, err
}

func TestPack(t *testing.T) {
	b := pack(t, profile.Packed{ID: id("large")}, profile.Packed{ID: id("one"), Data: []byte("one")}, profile.Packed{ID: id("two"), Data: []byte("two")})
	order, got, err := readPack(b)
	if err != nil || !slices.Equal(order, ids("large", "one", "two")) || len(got) != 2 || got[id("one")] != "one" || got[id("two")] != "two" {
		t.Errorf("%v %v %v", order, got, err)
	}
	stop := errors.New("stop")
	if err := profile.ReadPack(bytes.NewReader(b), int64(len(b)), func([]object.ContentID, []int) {}, func(object.ContentID, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	for i := range b {
		wrong := bytes.Clone(b)
		wrong[i] ^= 0x40
		// A name that only orders can be any: nothing is believed of it.
		first := len("RSPACK\x00\x01") + 4
		if _, got, err := readPack(wrong); !errors.Is(err, profile.ErrInvalid) && (i < first || i >= first+32 || len(got) != 2) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
	for n := range b {
		if _, _, err := readPack(b[:n]); !errors.Is(err, profile.ErrInvalid) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	if _, _, err := readPack(append(bytes.Clone(b), 0)); !errors.Is(err, profile.ErrInvalid) {
		t.Errorf("a byte too many: %v", err)
	}
	if _, err := profile.AppendPack(nil, []profile.Packed{{ID: id("x"), Data: make([]byte, profile.MaxPacked+1)}}); !errors.Is(err, profile.ErrInvalid) {
		t.Error("a content that is too large was packed")
	}
}

func FuzzReadPack(f *testing.F) {
	b, err := profile.AppendPack(nil, []profile.Packed{{ID: id("one"), Data: []byte("one")}, {ID: id("x")}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		order, got, err := readPack(b)
		for id, data := range got {
			if object.ContentOf([]byte(data)) != id {
				t.Error("a content that is not its name")
			}
		}
		if err != nil {
			return
		}
		var rows []profile.Packed
		for _, id := range order {
			rows = append(rows, profile.Packed{ID: id, Data: []byte(got[id])})
		}
		if again := pack(t, rows...); !bytes.Equal(again, b) {
			t.Error("what was read encodes to other bytes")
		}
		if err := profile.ReadPack(io.LimitReader(bytes.NewReader(b), int64(len(b)-1)), int64(len(b)), func([]object.ContentID, []int) {}, func(object.ContentID, []byte) error { return nil }); err == nil && len(got) > 0 {
			t.Error("a pack cut short was read")
		}
	})
}
