package shift_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/cell/shift"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/fusefs/viewtest"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

func same(r ...overlay.IDRange) overlay.Mapping { return overlay.Mapping{UIDs: r, GIDs: r} }

var (
	// guardian maps root alone elsewhere (docs/garden.md 2); no id of the
	// host but 0 is left.
	guardian = same(overlay.IDRange{Container: 0, Host: 4294967294, Size: 1}, overlay.IDRange{Container: 1, Host: 1, Size: 4294967293})
	// high is what most other runtimes do.
	high = same(overlay.IDRange{Container: 0, Host: 100000, Size: 65536})
	// around has the overflow id and those below it.
	around = same(overlay.IDRange{Container: 1, Host: 65000, Size: 1000}, overlay.IDRange{Container: 0, Host: 1, Size: 1}, overlay.IDRange{Container: 2000, Host: 0, Size: 1})
)

const regular, directory = 0o100000, 0o040000

func TestOwners(t *testing.T) {
	for _, c := range []struct {
		name               string
		mapping            overlay.Mapping
		uid, gid, mode     uint32
		wantU, wantG, want uint32
	}{
		{"root", guardian, 0, 0, regular | 0o4755, 4294967294, 4294967294, regular | 0o4755},
		{"user", guardian, 1000, 1001, regular | 0o6755, 1000, 1001, regular | 0o6755},
		{"nobody", guardian, 65534, 65534, regular | 0o644, 65534, 65534, regular | 0o644},
		{"user outside", guardian, 4294967294, 5, regular | 0o6755, 0, 5, regular | 0o755},
		{"group outside", guardian, 5, 4294967294, regular | 0o6755, 5, 0, regular | 0o755},
		{"directory outside", guardian, 4294967294, 4294967294, directory | 0o3777, 0, 0, directory | 0o3777},
		{"last", high, 65535, 65535, regular | 0o644, 165535, 165535, regular | 0o644},
		{"beyond the last", high, 65536, 65536, regular | 0o4755, 65534, 65534, regular | 0o755},
		{"where others are", high, 100000, 0, regular | 0o644, 65534, 100000, regular | 0o644},
		{"the overflow id is somebody", around, 5000, 1, regular | 0o644, 2, 65000, regular | 0o644},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := viewtest.New()
			v.Add("/x", viewtest.File{Mode: c.mode, UID: c.uid, GID: c.gid})
			s := shift.NewView(v, c.mapping)
			n, a, err := s.Lookup(t.Context(), s.Root(), "x")
			if err != nil {
				t.Fatal(err)
			}
			if a.UID != c.wantU || a.GID != c.wantG || a.Mode != c.want {
				t.Errorf("%d:%d %o, want %d:%d %o", a.UID, a.GID, a.Mode, c.wantU, c.wantG, c.want)
			}
			again, err := s.Attr(t.Context(), n)
			if err != nil || again != a {
				t.Errorf("Attr says %+v, %v, Lookup %+v", again, err, a)
			}
			listed := false
			if err := s.ReadDir(t.Context(), s.Root(), 0, func(_ string, _ view.Node, e view.Attr) bool {
				listed = e == a
				return true
			}); err != nil || !listed {
				t.Errorf("the listing says otherwise, %v", err)
			}
		})
	}
}

// capability writes security.capability.
func capability(magic uint32, words ...uint32) string {
	var b []byte
	for _, w := range append([]uint32{magic}, words...) {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return string(b)
}

func acl(entries ...uint32) string { // tag | permissions << 16, id
	return capability(2, entries...)
}

func TestAttributes(t *testing.T) {
	const cap1, cap2, cap3, effective, nobody = 0x01000000, 0x02000000, 0x03000000, 1, 0xffffffff
	const user, group, mask = 0x70002, 0x50008, 0x70010
	absent := "\x00absent"
	for _, c := range []struct {
		name, attr  string
		mapping     overlay.Mapping
		value, want string
	}{
		{"of the host", "security.capability", guardian, capability(cap2|effective, 1, 2, 3, 4), capability(cap3|effective, 1, 2, 3, 4, 4294967294)},
		{"of another mapping", "security.capability", high, capability(cap2, 1, 2, 3, 4), capability(cap3, 1, 2, 3, 4, 100000)},
		{"old", "security.capability", high, capability(cap1|effective, 1, 2), capability(cap3|effective, 1, 2, 0, 0, 100000)},
		{"of a namespace", "security.capability", high, capability(cap3, 1, 2, 3, 4, 1000), capability(cap3, 1, 2, 3, 4, 101000)},
		{"of a namespace outside", "security.capability", high, capability(cap3, 1, 2, 3, 4, 100000), absent},
		{"cut", "security.capability", high, capability(cap2, 1, 2, 3), capability(cap2, 1, 2, 3)},
		{"without a root", "security.capability", high, capability(cap3, 1, 2, 3, 4), capability(cap3, 1, 2, 3, 4)},
		{"of a later revision", "security.capability", high, capability(0x04000000, 1, 2, 3, 4), capability(0x04000000, 1, 2, 3, 4)},
		{"tiny", "security.capability", high, "x", "x"},
		{
			"acl", "system.posix_acl_access", high, acl(0x70001, nobody, user, 7, user, 70000, group, 8, mask, nobody),
			acl(0x70001, nobody, user, 100007, user, 65534, group, 100008, mask, nobody),
		},
		{"default acl", "system.posix_acl_default", guardian, acl(user, 0, group, 5), acl(user, 4294967294, group, 5)},
		{"cut acl", "system.posix_acl_access", high, acl(user), acl(user)},
		{"acl of a later version", "system.posix_acl_access", high, capability(3, user, 7), capability(3, user, 7)},
		{"other", "user.other", high, capability(cap2, 1, 2, 3, 4), capability(cap2, 1, 2, 3, 4)},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := viewtest.New()
			v.Add("/x", viewtest.File{Mode: regular | 0o755, XAttrs: map[string]string{c.attr: c.value, "user.a": "a", "user.z": "z"}})
			s := shift.NewView(v, c.mapping)
			n, _, err := s.Lookup(t.Context(), s.Root(), "x")
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.XAttr(t.Context(), n, c.attr)
			if errors.Is(err, view.ErrNoXAttr) {
				got, err = []byte(absent), nil
			}
			if err != nil || string(got) != c.want {
				t.Errorf("%x, %v; want %x", got, err, c.want)
			}
			if before, err := v.XAttr(t.Context(), n, c.attr); err != nil || string(before) != c.value {
				t.Errorf("the view's own value is %x now, %v", before, err)
			}
			want := []string{"user.a", "user.z"}
			if c.want != absent {
				want = append(want, c.attr)
			}
			names, err := s.ListXAttr(t.Context(), n)
			slices.Sort(names)
			slices.Sort(want)
			if d := cmp.Diff(want, slices.Compact(names)); err != nil || d != "" {
				t.Errorf("names: %v, %s", err, d)
			}
		})
	}
}

// A shifted view keeps the rules of one.
func TestViewSuite(t *testing.T) {
	v := viewtest.New()
	v.Add("/dir/file", viewtest.File{Mode: regular | 0o644, UID: 7, Data: []byte("text"), XAttrs: map[string]string{
		"security.capability": capability(0x03000000, 1, 2, 3, 4, 100000), "user.a": "a",
	}})
	v.Add("/link", viewtest.File{Mode: 0o120777, Target: "dir/file"})
	viewtest.Run(t, shift.NewView(v, high))
}
