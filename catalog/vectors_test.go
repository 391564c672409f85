package catalog_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/object"
)

// CVMFS-FORMAT 2.3.
func TestPathKeys(t *testing.T) {
	for path, want := range map[string]catalog.PathKey{
		"":             {338333539836370388, 9098107892288553193},
		"/foo":         {5745132282796244766, -5819618580357280866},
		"/foo/bar":     {-2822516800166431715, 9048809318629099454},
		"/foo/bar/baz": {7287625104930599036, 4625266238119415483},
		"/sw/été":      {-3179881084040100370, 8150057605779103260},
	} {
		if got := catalog.KeyOf(path); got != want {
			t.Errorf("KeyOf(%q) = %v, want %v", path, got, want)
		}
	}
}

// CVMFS-FORMAT 2.4, with zstd beside what stock software knows.
func TestFlags(t *testing.T) {
	regular := func(a object.Algorithm, c object.Compression, f catalog.Flags) catalog.Entry {
		return catalog.Entry{Mode: 0o100644, Algorithm: a, Hash: a.Sum(nil), Compression: c, Flags: f}
	}
	chunked := func(a object.Algorithm, c object.Compression, f catalog.Flags) catalog.Entry {
		return catalog.Entry{Mode: 0o100644, Algorithm: a, Compression: c, Flags: f | catalog.Chunked}
	}
	directory := func(f catalog.Flags) catalog.Entry { return catalog.Entry{Mode: 0o40755, Flags: f} }
	for want, e := range map[uint32]catalog.Entry{
		1:     directory(0),
		3:     directory(catalog.NestedMountpoint),
		33:    directory(catalog.NestedRoot),
		16385: directory(catalog.BindMountpoint),
		32771: directory(catalog.NestedMountpoint | catalog.Hidden),
		4:     regular(object.SHA1, object.Zlib, 0),
		2052:  regular(object.SHA1, object.None, 0),
		516:   regular(object.SHAKE128, object.Zlib, 0),
		4612:  regular(object.SHAKE128, object.Zstd, 0),
		2180:  regular(object.SHA1, object.None, catalog.External),
		65540: regular(object.SHA1, object.Zlib, catalog.DirectIO),
		32772: regular(object.SHA1, object.Zlib, catalog.Hidden),
		68:    chunked(object.SHA1, object.Zlib, 0),
		580:   chunked(object.SHAKE128, object.Zlib, 0),
		2244:  chunked(object.SHA1, object.None, catalog.External),
		12:    {Mode: 0o120777},
		20:    {Mode: 0o010644},
	} {
		got, err := catalog.EncodeFlags(&e)
		if err != nil || got != want {
			t.Errorf("EncodeFlags(%+v) = %d, %v; want %d", e, got, err, want)
		}
		back := catalog.Entry{Mode: e.Mode, Hash: e.Hash}
		if err := catalog.DecodeFlags(want, &back); err != nil {
			t.Errorf("DecodeFlags(%d): %v", want, err)
		}
		if diff := cmp.Diff(e, back); diff != "" {
			t.Errorf("DecodeFlags(%d): %s", want, diff)
		}
	}
}

func TestFlagsRefused(t *testing.T) {
	for _, tc := range []struct {
		column uint32
		mode   uint32
	}{
		{4 | 3<<8, 0o100644}, // hash algorithm 4
		{1, 0o100644},
		{4, 0o40755},
		{4, 0o120777},
		{20, 0o100644},
		{1 | 2 | 32, 0o40755},
		{4 | 2, 0o100644},
		{1 | 64, 0o40755},
		{12 | 128, 0o120777},
		{4, 0},
		{4, 0o170000},
		{4, 0o1100644},
	} {
		e := catalog.Entry{Mode: tc.mode}
		if err := catalog.DecodeFlags(tc.column, &e); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("DecodeFlags(%d) of mode %#o: %v", tc.column, tc.mode, err)
		}
	}
	for _, e := range []catalog.Entry{
		{Mode: 0o40755, Flags: catalog.NestedMountpoint | catalog.BindMountpoint},
		{Mode: 0o40755, Flags: catalog.Chunked},
		{Mode: 0o100644, Flags: catalog.Chunked},
		{Mode: 0o100644, Flags: 1},
		{Mode: 0o100644, Compression: 8},
		{Mode: 0o644},
	} {
		if f, err := catalog.EncodeFlags(&e); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("EncodeFlags(%+v) = %d, %v", e, f, err)
		}
	}
}

// Special files had no flag before revision 5, and unknown bits say nothing.
func TestFlagsTolerated(t *testing.T) {
	e := catalog.Entry{Mode: 0o010644}
	if err := catalog.DecodeFlags(4, &e); err != nil {
		t.Error(err)
	}
	e = catalog.Entry{Mode: 0o100644}
	if err := catalog.DecodeFlags(4|1<<17|5<<11, &e); err != nil || e.Flags != 0 || e.Compression != 5 {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestLinks(t *testing.T) {
	if got := catalog.EncodeLinks(2, 3); got != 12884901890 {
		t.Errorf("EncodeLinks(2, 3) = %d", got)
	}
	for _, links := range []uint32{0, 1, 1<<32 - 1} {
		for _, group := range []uint32{0, 1, 1<<32 - 1} {
			if l, g := catalog.DecodeLinks(catalog.EncodeLinks(links, group)); l != links || g != group {
				t.Errorf("links %d, group %d come back as %d, %d", links, group, l, g)
			}
		}
	}
}

// CVMFS-FORMAT 2.5.
func TestXAttrs(t *testing.T) {
	capability := append([]byte{1, 0, 0, 2, 0, 0x20}, make([]byte, 14)...)
	for want, xattrs := range map[string][]catalog.XAttr{
		"":                               nil,
		"01010803757365722e666f6f626172": {{Name: "user.foo", Value: []byte("bar")}},
		"0102131473656375726974792e6361706162696c697479" + "0100000200200000000000000000000000000000" +
			"0803757365722e666f6f626172": {
			{Name: "security.capability", Value: capability},
			{Name: "user.foo", Value: []byte("bar")},
		},
	} {
		got, err := catalog.EncodeXAttrs(xattrs)
		if err != nil || hex.EncodeToString(got) != want {
			t.Errorf("encoded %x, %v; want %s", got, err, want)
		}
		back, err := catalog.DecodeXAttrs(got)
		if diff := cmp.Diff(xattrs, back); diff != "" || err != nil {
			t.Errorf("%s: %v %s", want, err, diff)
		}
	}
	unsorted := []catalog.XAttr{{Name: "b"}, {Name: "a"}}
	got, err := catalog.EncodeXAttrs(unsorted)
	if err != nil || hex.EncodeToString(got) != "0102010061010062" || unsorted[0].Name != "b" {
		t.Errorf("%x, %v", got, err)
	}
}

func TestXAttrsRefused(t *testing.T) {
	for _, blob := range []string{
		"01", "02010161", "0100", "0101", "010101", "01010100", "0101010061ff",
		"01010000", "01010100" + "00", "0102010061" + "010061",
	} {
		b, err := hex.DecodeString(blob)
		if err != nil {
			t.Fatal(err)
		}
		if x, err := catalog.DecodeXAttrs(b); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("DecodeXAttrs(%s) = %v, %v", blob, x, err)
		}
	}
	fits := strings.Repeat("n", 255)
	for _, xattrs := range [][]catalog.XAttr{
		{{Name: ""}},
		{{Name: "a\x00"}},
		{{Name: fits + "n"}},
		{{Name: "a", Value: make([]byte, 256)}},
		{{Name: "a"}, {Name: "a"}},
		make([]catalog.XAttr, 256),
	} {
		if b, err := catalog.EncodeXAttrs(xattrs); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("EncodeXAttrs(%d attributes) = %x, %v", len(xattrs), b, err)
		}
	}
	fit, unfit := catalog.UnfitXAttrs([]catalog.XAttr{
		{Name: fits + "n"}, {Name: "b", Value: make([]byte, 256)}, {Name: fits, Value: make([]byte, 255)}, {Name: "a"},
	})
	if len(fit) != 2 || fit[0].Name != "a" || fit[1].Name != fits || len(unfit) != 2 {
		t.Errorf("fit %v, unfit %v", fit, unfit)
	}
	if _, err := catalog.EncodeXAttrs(fit); err != nil {
		t.Error(err)
	}
}

func FuzzXAttr(f *testing.F) {
	for _, s := range []string{"", "01010803757365722e666f6f626172", "0102010062010061", "0101", "01020100610100610"} {
		b, _ := hex.DecodeString(s) //nolint:errcheck // an odd digit is cut off
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, blob []byte) {
		xattrs, err := catalog.DecodeXAttrs(blob)
		if err != nil {
			if !errors.Is(err, catalog.ErrInvalid) || xattrs != nil {
				t.Fatalf("%v, %v", xattrs, err)
			}
			return
		}
		again, err := catalog.EncodeXAttrs(xattrs)
		if err != nil || len(again) != len(blob) {
			t.Fatalf("%x encodes to %x, %v", blob, again, err)
		}
		back, err := catalog.DecodeXAttrs(again)
		if diff := cmp.Diff(xattrs, back); err != nil || diff != "" {
			t.Fatalf("%v %s", err, diff)
		}
	})
}
