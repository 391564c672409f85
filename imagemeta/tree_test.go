package imagemeta_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/object"
)

func dir(path string, perm uint32) imagemeta.Entry {
	return imagemeta.Entry{Path: path, Mode: 0o040000 | perm}
}

func file(path string, content string) imagemeta.Entry {
	return imagemeta.Entry{
		Path: path, Mode: 0o100644, Size: int64(len(content)), Content: object.ContentOf([]byte(content)),
	}
}

// sample has one of everything a listing can say.
func sample() []imagemeta.Entry {
	link := func(path string, group uint32) imagemeta.Entry {
		e := file(path, "linked")
		e.Link, e.MTime, e.Nsec = group, 1700000000, 5
		e.XAttrs = []imagemeta.XAttr{{Name: "security.capability", Value: []byte{1, 0, 0, 2}}, {Name: "user.x", Value: []byte{}}}
		return e
	}
	fifo := func(path string) imagemeta.Entry {
		return imagemeta.Entry{Path: path, Mode: 0o010600, Link: 2, UID: 1}
	}
	return []imagemeta.Entry{
		dir("", 0o755),
		dir("a", 0o1777),
		link("a/one", 1),
		dir("a/sub", 0o755),
		file("a/sub/empty", ""),
		fifo("a/sub/f"),
		fifo("a/sub/f2"),
		link("a/two", 1),
		file("a-", "after a and all below it"),
		{Path: "b", Mode: 0o120777, Target: "a/one", MTime: -1, Nsec: 999999999},
		{Path: "c", Mode: 0o020666, Major: 1, Minor: 3, UID: 4294967295, GID: 65534},
		{Path: "d", Mode: 0o060660, Major: 4095, Minor: 1048575, MTime: -1 << 63},
		{Path: "e", Mode: 0o140755, MTime: 1<<63 - 1},
		{Path: "f\xff\n", Mode: 0o104755, Size: 1<<63 - 1, Content: object.ContentID{1}},
	}
}

// bigTree looks like a distribution's root file system of n entries.
func bigTree(n int) []imagemeta.Entry {
	entries := []imagemeta.Entry{dir("", 0o755)}
	for i := 0; len(entries) < n; i++ {
		d := fmt.Sprintf("usr/share/package-%05d", i)
		if i == 0 {
			entries = append(entries, dir("usr", 0o755), dir("usr/share", 0o755))
		}
		entries = append(entries, dir(d, 0o755))
		for j := 0; j < 7 && len(entries) < n; j++ {
			e := file(fmt.Sprintf("%s/some-file-%d.conf", d, j), fmt.Sprint(i, j))
			e.MTime = 1700000000 + int64(i)*977
			entries = append(entries, e)
		}
	}
	return entries
}

// tree draws any valid listing.
func tree(t *rapid.T) []imagemeta.Entry {
	name := rapid.StringMatching(`[ -.0-9a-c\x80-\xff]{1,3}`).Filter(func(s string) bool { return s != "." && s != ".." })
	entries := []imagemeta.Entry{fields(t, "", true)}
	dirs := []string{""}
	seen := map[string]bool{"": true}
	var links []int
	for range rapid.IntRange(0, 30).Draw(t, "entries") {
		path := rapid.SampledFrom(dirs).Draw(t, "dir")
		if path != "" {
			path += "/"
		}
		path += name.Draw(t, "name")
		if seen[path] {
			continue
		}
		seen[path] = true
		if len(links) > 0 && rapid.IntRange(0, 4).Draw(t, "link") == 0 {
			e := entries[rapid.SampledFrom(links).Draw(t, "first")]
			e.Path = path
			entries = append(entries, e)
			continue
		}
		e := fields(t, path, false)
		if e.IsDir() {
			dirs = append(dirs, path)
		} else {
			links = append(links, len(entries))
			e.Link = uint32(len(entries)) // renumbered below
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b imagemeta.Entry) int { return imagemeta.Compare(a.Path, b.Path) })
	members := map[uint32]int{}
	for _, e := range entries {
		members[e.Link]++
	}
	numbers := map[uint32]uint32{}
	for i := range entries {
		link := entries[i].Link
		if members[link] < 2 || link == 0 {
			entries[i].Link = 0
			continue
		}
		if numbers[link] == 0 {
			numbers[link] = uint32(len(numbers) + 1)
		}
		entries[i].Link = numbers[link]
	}
	return entries
}

func fields(t *rapid.T, path string, root bool) imagemeta.Entry {
	small := rapid.OneOf(rapid.Just(uint32(0)), rapid.Uint32())
	e := imagemeta.Entry{
		Path:  path,
		Mode:  rapid.SampledFrom([]uint32{0o755, 0o644, 0, 0o7777}).Draw(t, "perm"),
		UID:   small.Draw(t, "uid"),
		GID:   small.Draw(t, "gid"),
		MTime: rapid.OneOf(rapid.Just(int64(0)), rapid.Int64()).Draw(t, "mtime"),
		Nsec:  rapid.OneOf(rapid.Just(uint32(0)), rapid.Uint32Range(0, 999999999)).Draw(t, "nsec"),
	}
	kind := uint32(0o040000)
	if !root {
		kind = rapid.SampledFrom([]uint32{0o140000, 0o120000, 0o100000, 0o060000, 0o040000, 0o020000, 0o010000}).Draw(t, "type")
	}
	e.Mode |= kind
	switch kind {
	case 0o100000:
		e.Size = rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(0, 1<<63-1)).Draw(t, "size")
		e.Content = object.ContentOf(fmt.Append(nil, e.Size))
		if e.Size == 0 {
			e.Content = object.EmptyContent
		}
	case 0o120000:
		e.Target = rapid.StringMatching(`[a-z/.]{1,9}`).Draw(t, "target")
	case 0o060000, 0o020000:
		e.Major, e.Minor = rapid.Uint32Range(0, 4095).Draw(t, "major"), rapid.Uint32Range(0, 1<<20-1).Draw(t, "minor")
	}
	names := rapid.SliceOfNDistinct(rapid.StringMatching(`(user|trusted)\.[a-z]{1,3}`), 0, 2, rapid.ID).Draw(t, "xattrs")
	slices.Sort(names)
	for _, n := range names {
		e.XAttrs = append(e.XAttrs, imagemeta.XAttr{Name: n, Value: rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "value")})
	}
	return e
}

func TestCompare(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "a", -1},
		{"a", "a", 0},
		{"a", "a/b", -1},
		{"a/b", "a-", -1},
		{"a-", "a/b", 1},
		{"a/b", "ab", -1},
		{"b", "a/z", 1},
		{"a\xff", "a/b", 1},
		{"a!", "a/", 1},
	} {
		if got := imagemeta.Compare(tc.a, tc.b); got != tc.want {
			t.Errorf("Compare(%q, %q) = %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}
