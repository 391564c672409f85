package packages_test

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/inventory"
	"github.com/rootstock-cf/rootstock/inventory/packages"
)

var sorted = cmpopts.SortSlices(strings.Compare)

// What a layer says under a name counts only if the finished tree has it.
func TestOnlyTheFinishedTreeCounts(t *testing.T) {
	c := packages.New()
	old, status := []byte("Package: a\nVersion: 1\n"), []byte("Package: a\nVersion: 2\n")
	feed(c, "var/lib/dpkg/status", regular, old)
	feed(c, "var/lib/dpkg/status", regular, status)
	feed(c, "node_modules/gone/package.json", regular, []byte(`{"name":"gone","version":"1.0.0"}`))
	v := c.Inventory(imagemeta.TreeID{1}, tree{"var/lib/dpkg/status": string(status)}.entries())
	if d := cmp.Diff([]string{"pkg:deb/debian/a@2 var/lib/dpkg/status"}, said(v)); d != "" {
		t.Error(d)
	}
}

// A content that came under a name no reader wants, as through a link, is
// missing until it is fed, and a gap if it never is.
func TestMissing(t *testing.T) {
	c := packages.New()
	text := `{"name":"left-pad","version":"1.3.0"}`
	if feed(c, "srv/package.json", regular, []byte(text)) {
		t.Fatal("a package.json outside of node_modules is watched")
	}
	entries := tree{"node_modules/left-pad/package.json": text, "x/node_modules/left-pad/package.json": text, "srv/package.json": text}.entries()
	missing := c.Missing(entries)
	if len(missing) != 1 || missing[0].Path != "node_modules/left-pad/package.json" {
		t.Fatalf("missing: %v", missing)
	}
	if v := c.Inventory(imagemeta.TreeID{1}, entries); len(v.NotRead) != 2 || len(v.Packages) != 0 {
		t.Errorf("before it was fed: %v, %v", said(v), gaps(v))
	}
	feed(c, missing[0].Path, missing[0].Mode, []byte(text))
	if left := c.Missing(entries); len(left) != 0 {
		t.Errorf("still missing: %v", left)
	}
	if v := c.Inventory(imagemeta.TreeID{1}, entries); len(v.NotRead) != 0 || len(v.Packages) != 2 {
		t.Errorf("after it was fed: %v, %v", said(v), gaps(v))
	}
}

func TestFileLargerThanItSaid(t *testing.T) {
	c := packages.New()
	f := c.Watch("manifest.yml", regular, 10)
	big := bytes.Repeat([]byte("#"), 1<<20)
	f.Write(big)
	f.Write(big)
	e := tree{"manifest.yml": "0123456789"}.entries()
	f.Done(e[1].Content)
	if g := gaps(c.Inventory(imagemeta.TreeID{1}, e)); len(g) != 1 || !strings.Contains(g[0], "larger than it said") {
		t.Errorf("gaps: %v", g)
	}
}

func TestPackagesAreBounded(t *testing.T) {
	text := "P:a\nV:1\n\n"
	one := strings.Repeat(text, 1<<17)
	tr := tree{"lib/apk/db/installed": one, "usr/lib/apk/db/installed": one + text}
	v := tr.inventory()
	if g := gaps(v); len(g) != 1 || !strings.Contains(g[0], "more than") {
		t.Errorf("gaps: %v", g)
	}
}

// The stream scanner says what debug/buildinfo says, which looks into the
// file's sections.
func TestGoPrograms(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	programs := []string{self}
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	goroot := strings.TrimSpace(string(out))
	programs = append(programs, filepath.Join(goroot, "bin/go"), filepath.Join(goroot, "bin/gofmt"))
	for _, name := range programs {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		info, err := buildinfo.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{}
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			want = append(want, m.Path+" "+m.Version)
		}
		if v := info.Main.Version; v != "" && v != "(devel)" {
			want = append(want, info.Main.Path+" "+v)
		}
		got := []string{}
		std := ""
		v := tree{"*usr/bin/program": string(b)}.inventory()
		for _, p := range v.Packages {
			if p.Name == "stdlib" {
				std = p.Version
				continue
			}
			got = append(got, p.Name+" "+p.Version)
		}
		if d := cmp.Diff(want, got, sorted); d != "" {
			t.Errorf("%s (-buildinfo +scan):\n%s", name, d)
		}
		if release, _, _ := strings.Cut(strings.TrimPrefix(info.GoVersion, "go"), " "); std != release {
			t.Errorf("%s: built with %q, read as %q; gaps %v", name, info.GoVersion, std, gaps(v))
		}
		if len(v.NotRead) != 0 {
			t.Errorf("%s: gaps %v", name, gaps(v))
		}
		if v := (tree{"usr/bin/program": string(b)}).inventory(); len(v.Packages) != 0 {
			t.Errorf("%s: read although nobody may execute it", name)
		}
	}
}

// record is a build record as a linker writes it.
func record(release, modules string) string {
	guard := strings.Repeat("\x30", 16)
	modules = guard + modules + guard
	h := make([]byte, 32)
	copy(h, "\xff Go buildinf:")
	h[14], h[15] = 8, 2
	return string(h) + string(uvarint(len(release))) + release + string(uvarint(len(modules))) + modules
}

func uvarint(n int) (b []byte) {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func TestGoRecords(t *testing.T) {
	elf := "\x7fELF" + strings.Repeat(".", 12)
	mods := "path\tcmd/x\nmod\texample.org/x\tv1.2.0\t\ndep\texample.org/a\tv1.0.0\th1:\n=>\texample.org/b\tv1.0.1\th1:\ndep\texample.org/local\tv0.1.0\n=>\t./local\t\t\n"
	good := record("go1.22rc2", mods)
	pad := strings.Repeat(".", 16-len(good)%16)
	for name, c := range map[string]struct {
		text string
		want []string
		gap  string
	}{
		"replaced modules": {elf + good, []string{"example.org/b v1.0.1", "example.org/local v0.1.0", "example.org/x v1.2.0", "stdlib 1.22.0-rc.2"}, ""},
		"program in a program": {
			elf + record("go1.20.1", "") + strings.Repeat(".", 16-len(record("go1.20.1", ""))%16) + record("go1.21.5 X:boringcrypto", "path\tx\n"),
			[]string{"stdlib 1.20.1", "stdlib 1.21.5"},
			"",
		},
		"after a look-alike": {elf + "\xff Go buildinf:" + "\x07\xff" + good + pad, []string{"example.org/b v1.0.1", "example.org/local v0.1.0", "example.org/x v1.2.0", "stdlib 1.22.0-rc.2"}, ""},
		"not a program":      {"#!/bin/sh\n" + good, nil, ""},
		"not aligned":        {elf + "." + good, nil, ""},
		"before Go 1.18":     {elf + "\xff Go buildinf:\x08\x00" + strings.Repeat("\x00", 16), nil, "before 1.18"},
		"cut off":            {elf + good[:60], nil, ""},
		"endless look-alikes": {
			elf + strings.Repeat("\xff Go buildinf:\x08\x02"+strings.Repeat("\x00", 16)+"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 100), nil, "too many places",
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := tree{"*p": c.text}.inventory()
			got := []string{}
			for _, p := range v.Packages {
				got = append(got, p.Name+" "+p.Version)
			}
			if d := cmp.Diff(append([]string{}, c.want...), got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if g := gaps(v); (c.gap == "") != (len(g) == 0) || len(g) > 0 && !strings.Contains(g[0], c.gap) {
				t.Errorf("gaps %q, want %q", g, c.gap)
			}
		})
	}
}

// The fuzz targets: whatever the bytes, the readers end, and what they say is
// fit to be written.
func fuzz(f *testing.F, path string, mode uint32, seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := packages.New()
		name := path
		if mode&0o111 != 0 {
			name = "*" + path
		}
		feed(c, path, mode, b)
		v := c.Inventory(imagemeta.TreeID{1}, tree{name: string(b)}.entries())
		var out bytes.Buffer
		if err := inventory.Encode(&out, v); err != nil {
			t.Fatal(err)
		}
		again, err := inventory.Decode(&out)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(said(v), said(again)) {
			t.Fatalf("read back differently: %s", fmt.Sprint(said(again)))
		}
	})
}

func FuzzDpkg(f *testing.F) { fuzz(f, "var/lib/dpkg/status", regular, debianStatus) }
func FuzzAPK(f *testing.F)  { fuzz(f, "lib/apk/db/installed", regular, "P:musl\nV:1.2.4-r2\nL:MIT\n\n") }

func FuzzReceipt(f *testing.F) {
	fuzz(f, "receipt.cflinuxfs4.x86_64", regular, receiptText)
}

func FuzzBuildpack(f *testing.F) {
	fuzz(f, "manifest.yml", regular, aliasBomb, "dependencies: [{name: node, version: 20.1.0, file: dependencies/a/b, cf_stacks: [x]}]")
}

func FuzzNPM(f *testing.F) {
	fuzz(f, "node_modules/a/package.json", regular, `{"name":"a","version":"1.0.0","licenses":[{"type":"MIT"}]}`)
}

func FuzzPython(f *testing.F) { fuzz(f, "a.egg-info", regular, "Name: a\nVersion: 1\n\n") }

func FuzzRuby(f *testing.F) {
	fuzz(f, "specifications/a.gemspec", regular, "# stub: rake 13.0.6 ruby lib\n", "  s.name = \"json\".freeze\n  s.version = '2.6.1'\n")
}

func FuzzJava(f *testing.F) {
	fuzz(f, "a.jar", regular, archive(f, "META-INF/maven/g/a/pom.properties", pom("g", "a", "1"), "b.jar", archive(f, "x", "y")))
}

func FuzzGoBinary(f *testing.F) {
	fuzz(f, "p", regular|0o755, "\x7fELF............"+record("go1.22.0", "path\tx\nmod\tm\tv1.0.0\t\n"))
}

func FuzzOSRelease(f *testing.F) {
	fuzz(f, "etc/os-release", regular, "ID=debian\nVERSION_ID=\"12\"\n")
}
