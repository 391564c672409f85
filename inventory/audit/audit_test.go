package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/inventory"
	"github.com/rootstock-cf/rootstock/inventory/audit"
	"github.com/rootstock-cf/rootstock/inventory/fleet"
	"github.com/rootstock-cf/rootstock/reference"
)

func query(t testing.TB, text string) audit.Advisory {
	t.Helper()
	a, err := audit.ParseQuery(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func ref(kind reference.Kind, name, version string) reference.Reference {
	return reference.Reference{Kind: kind, Name: name, Version: version}
}

// pkg is "ecosystem name version [source [sourceversion]]".
func pkg(text string) inventory.Package {
	f := append(strings.Fields(text), "", "")
	p := inventory.Package{Ecosystem: inventory.Ecosystem(f[0]), Name: f[1], Version: f[2], Source: f[3], SourceVersion: f[4], Path: "x"}
	p.PURL = inventory.PackageURL(&p, inventory.Distro{})
	return p
}

func tree(id string, v audit.Version, d inventory.Distro, packages ...string) audit.Tree {
	inv := &inventory.Inventory{Format: inventory.Format, Tree: id, Distro: d}
	for _, p := range packages {
		inv.Packages = append(inv.Packages, pkg(p))
	}
	return audit.Tree{ID: id, Versions: []audit.Version{v}, Inventory: inv}
}

func at(version string, day int) audit.Version {
	return audit.Version{Reference: ref(reference.Rootfs, "demo", version), Published: time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC)}
}

var jammy = inventory.Distro{ID: "ubuntu", Version: "22.04"}

func TestQueries(t *testing.T) {
	tr := tree("a", at("1", 1), jammy,
		"deb libssl3 3.0.2-0ubuntu1.17 openssl", "deb libgcc-s1 12.2.0-14+b1 gcc-12 12.2.0-14", "npm bcrypt 4.0.1", "npm @babel/core 7.1.0",
		"pypi Py_YAML 6.0", "maven org.yaml:snakeyaml 1.33", "golang golang.org/x/net v0.7.0", "golang stdlib 1.21.0-rc.2", "generic node 20.9.0")
	for text, want := range map[string]string{
		"openssl < 3.0.2-0ubuntu1.18":              "libssl3",
		"libssl3 < 3.0.2-0ubuntu1.18":              "libssl3",
		"openssl < 3.0.2-0ubuntu1.9":               "",
		"openssl":                                  "libssl3",
		"gcc-12 <= 12.2.0-14":                      "libgcc-s1", // the source's own version, without +b1
		"libgcc-s1 <= 12.2.0-14":                   "",
		"pkg:deb/ubuntu/openssl < 3.1":             "libssl3",
		"pkg:deb/debian/openssl < 3.1":             "",
		"pkg:npm/bcrypt < 5.0.0":                   "bcrypt",
		"pkg:npm/bcrypt@4.0.1":                     "bcrypt",
		"pkg:npm/bcrypt@4.0.0":                     "",
		"pkg:npm/%40babel/core >= 7, < 8":          "@babel/core",
		"pkg:pypi/py.yaml < 6.0.1":                 "Py_YAML",
		"py-yaml":                                  "Py_YAML",
		"pkg:maven/org.yaml/snakeyaml < 2.0":       "org.yaml:snakeyaml",
		"org.yaml:snakeyaml < 1.4":                 "",
		"pkg:golang/golang.org/x/net < 0.17.0":     "golang.org/x/net",
		"stdlib < 1.21":                            "stdlib",
		"pkg:generic/node < 20.11.0":               "node",
		"node != 20.9.0":                           "",
		"pkg:npm/node":                             "",
		"pkg:npm/left-pad":                         "",
		"pkg:generic/node?checksum=sha256:00 < 21": "node",
	} {
		r := audit.Run([]audit.Advisory{query(t, text)}, []audit.Tree{tr}, nil)
		got := ""
		for _, f := range r.Findings {
			for _, h := range f.Hits {
				got += h.Name
			}
		}
		if got != want || r.Affected() != (want != "") || !r.Complete() {
			t.Errorf("%q finds %q, want %q", text, got, want)
		}
	}
	for _, bad := range []string{"", "< 1", "openssl <", "openssl 1.0", "pkg:npm", "pkg:rpm/openssl < 1", "pkg:npm/a < 1 < 2"} {
		if a, err := audit.ParseQuery(bad); err == nil {
			t.Errorf("%q is understood as %+v", bad, a)
		}
	}
}

func TestWhatIsNotKnownIsSaid(t *testing.T) {
	clean := tree("a", at("1", 1), jammy, "deb openssl 3.1")
	gap := tree("b", at("2", 2), jammy)
	gap.Inventory.NotRead = []inventory.Gap{{Ecosystem: inventory.RPM, Path: "var/lib/rpm/Packages", Reason: "r"}}
	odd := tree("c", at("3", 3), jammy, "npm bcrypt latest")
	unnoted := audit.Tree{ID: "d", Versions: []audit.Version{at("4", 4)}}
	silent := []fleet.Cell{{Name: "z1", Err: errors.New("refused")}}
	strangers := []fleet.Cell{{Name: "z1", Containers: []fleet.Container{{Handle: "h", Tree: "gone"}}}}
	for name, c := range map[string]struct {
		query    string
		trees    []audit.Tree
		cells    []fleet.Cell
		complete bool
	}{
		"all known":                       {"openssl < 3", []audit.Tree{clean}, []fleet.Cell{{Name: "z1", Containers: []fleet.Container{{Tree: "a"}}}}, true},
		"a database not read":             {"openssl < 3", []audit.Tree{clean, gap}, nil, false},
		"one of another ecosystem":        {"pkg:deb/ubuntu/openssl < 3", []audit.Tree{clean, gap}, nil, true},
		"a version that is none":          {"bcrypt < 5", []audit.Tree{odd}, nil, false},
		"a tree without an inventory":     {"openssl < 3", []audit.Tree{clean, unnoted}, nil, false},
		"a silent cell":                   {"openssl < 3", []audit.Tree{clean}, silent, false},
		"a container on an unknown tree":  {"openssl < 3", []audit.Tree{clean}, strangers, false},
		"a query's version that is none":  {"openssl < banana", []audit.Tree{clean}, nil, false},
		"a package of no version at all?": {"bcrypt", []audit.Tree{clean}, nil, true},
	} {
		r := audit.Run([]audit.Advisory{query(t, c.query)}, c.trees, c.cells)
		if r.Affected() || r.Complete() != c.complete {
			t.Errorf("%s: affected %v, complete %v", name, r.Affected(), r.Complete())
		}
	}
}

func TestJoinAndSuggestion(t *testing.T) {
	trees := []audit.Tree{
		tree("a", at("1", 1), jammy, "deb openssl 3.0"), tree("b", at("2", 2), jammy, "deb openssl 3.2"),
		tree("c", at("3", 3), jammy, "deb openssl 3.3"), tree("d", at("4", 4), jammy, "deb openssl 3.1"),
		{ID: "e", Versions: []audit.Version{at("5", 5)}},
	}
	trees[0].Versions = append(trees[0].Versions, audit.Version{Reference: ref(reference.Images, "r/x", "y")})
	cells := []fleet.Cell{
		{Name: "z1", Containers: []fleet.Container{{Handle: "one", Tree: "a"}, {Handle: "two", Tree: "c"}}},
		{Name: "z2", Containers: []fleet.Container{{Handle: "three", Tree: "a"}}},
	}
	r := audit.Run([]audit.Advisory{query(t, "openssl < 3.2")}, trees, cells)
	var got []string
	for _, f := range r.Findings {
		s := f.Tree.ID + ":"
		for _, c := range f.Containers {
			s += " " + c.Cell + "/" + c.Handle
		}
		for _, c := range f.Clean {
			s += " " + c.Name + "@" + c.Version
		}
		got = append(got, s)
	}
	want := []string{"a: z1/one z2/three rootfs/demo@3 images/r/x@", "d: rootfs/demo@3"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if r.Cells != 2 || r.Running != 3 || len(r.NotNoted) != 1 {
		t.Errorf("%d cells, %d containers, %d not noted", r.Cells, r.Running, len(r.NotNoted))
	}
}

const osv = `
{"id":"A-1","aliases":["CVE-1"],"affected":[
 {"package":{"ecosystem":"Ubuntu:Pro:22.04:LTS","name":"openssl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"3.0.2-0ubuntu1.18"}]}]},
 {"package":{"ecosystem":"Debian:12","name":"openssl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"9"}]}]},
 {"package":{"ecosystem":"crates.io","name":"openssl"}}]}
[{"id":"A-2","affected":[{"package":{"ecosystem":"npm","name":"bcrypt"},"versions":["9.9.9"],
   "ranges":[{"type":"SEMVER","events":[{"introduced":"1.0.0"},{"fixed":"2.0.0"},{"introduced":"4.0.0"},{"last_affected":"4.0.1"}]},{"type":"GIT","events":[{"introduced":"0"}]}]}]},
 {"id":"A-3","withdrawn":"2026-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"npm","name":"bcrypt"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}]}]}]
{"vulns":[{"id":"A-5","affected":[{"package":{"ecosystem":"npm","name":"odd"},"versions":["bad"],
   "ranges":[{"type":"SEMVER","events":[{"fixed":"0.5.0"},{"introduced":"1.0.0"},{"introduced":"3.0.0"},{"fixed":"4.0.0"}]}]}]},
 {"id":"A-6","affected":[{"package":{"ecosystem":"npm","name":"listed"},"versions":["bad"]}]},
 {"id":"A-4","affected":[{"package":{"ecosystem":"Alpine:v3.18","name":"openssl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]}]}]}`

func TestOSV(t *testing.T) {
	all, skipped, err := audit.ParseOSV(strings.NewReader(osv))
	if err != nil || skipped != 1 || len(all) != 5 {
		t.Fatalf("%d advisories, %d skipped, %v", len(all), skipped, err)
	}
	for _, c := range []struct {
		distro inventory.Distro
		pkg    string
		want   string
	}{
		{jammy, "deb libssl3 3.0.2-0ubuntu1.17 openssl", "A-1"},
		{jammy, "deb libssl3 3.0.2-0ubuntu1.18 openssl", ""},
		{inventory.Distro{ID: "debian", Version: "12"}, "deb openssl 3.0.2-0ubuntu1.18", "A-1"},
		{inventory.Distro{ID: "debian", Version: "11"}, "deb openssl 3.0.2", ""},
		{inventory.Distro{ID: "ubuntu", Version: "24.04"}, "deb openssl 3.0.1", ""},
		{inventory.Distro{}, "deb openssl 3.0.1", "A-1"}, // who knows
		{jammy, "npm bcrypt 0.9.0", ""},
		{jammy, "npm bcrypt 1.5.0", "A-2"},
		{jammy, "npm bcrypt 2.0.0", ""},
		{jammy, "npm bcrypt 4.0.1", "A-2"},
		{jammy, "npm bcrypt 4.0.2", ""},
		{jammy, "npm bcrypt 9.9.9", "A-2"},
		{jammy, "npm odd 0.1.0", ""},    // "fixed" without a beginning says nothing
		{jammy, "npm odd 2.0.0", "A-5"}, // "introduced" twice is two ranges
		{jammy, "npm odd 3.5.0", "A-5"},
		{jammy, "npm odd bad", "A-5"},
		{jammy, "npm listed bad", "A-6"},
		{jammy, "npm listed worse", ""}, // needs no order
		{jammy, "deb libx 2.0 openssl 3.0.2-0ubuntu1.17", "A-1"},
		{jammy, "deb openssl 9.0 - 3.0.2-0ubuntu1.17", ""},
		{jammy, "npm libssl3 3.0.0 openssl", ""},
		{inventory.Distro{ID: "alpine", Version: "3.18.4"}, "apk libssl3 3.1.4-r5 openssl", "A-4"},
		{inventory.Distro{ID: "alpine", Version: "3.1"}, "apk libssl3 3.1.4-r5 openssl", ""},
	} {
		got := ""
		for _, f := range audit.Run(all, []audit.Tree{tree("a", at("1", 1), c.distro, c.pkg)}, nil).Findings {
			got += f.Advisory.ID
		}
		if got != c.want {
			t.Errorf("%v %s: %q, want %q", c.distro, c.pkg, got, c.want)
		}
	}
	for _, bad := range []string{"", "{", "1", `{"affected":[]}`, `[{"id":1}]`, `{"id":"x"} junk`} {
		if _, _, err := audit.ParseOSV(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is taken for advisories", bad)
		}
	}
}

func FuzzOSV(f *testing.F) {
	f.Add(osv)
	f.Fuzz(func(t *testing.T, text string) {
		all, _, err := audit.ParseOSV(strings.NewReader(text))
		if err == nil {
			audit.Run(all, []audit.Tree{tree("a", at("1", 1), jammy, "deb openssl 3.0", "npm bcrypt 4.0.1")}, nil)
		}
	})
}

func TestDiff(t *testing.T) {
	inv := func(packages ...string) inventory.Inventory {
		return *tree("a", at("1", 1), jammy, packages...).Inventory
	}
	got := []string{}
	for _, c := range audit.Diff(
		inv("deb a 1.9", "deb b 2", "deb c 1", "deb same 1", "npm multi 1.0.0", "npm multi 2.0.0", "npm odd latest"),
		inv("deb a 1.10", "deb b 1:1", "deb d 1", "deb same 1", "npm multi 2.0.0", "npm multi 3.0.0", "npm odd next", "deb b 1")) {
		got = append(got, fmt.Sprintf("%s %s %s %s→%s", c.How, c.Ecosystem, c.Name, c.From, c.To))
	}
	want := []string{
		"up deb a 1.9→1.10", "added deb b →1:1", "down deb b 2→1", "removed deb c 1→", "added deb d →1",
		"up npm multi 1.0.0→3.0.0", "changed npm odd latest→next",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if all := audit.Diff(inv("deb a 1"), inv("deb a 1")); len(all) != 0 {
		t.Errorf("a tree differs from itself: %v", all)
	}
}

// BenchmarkAudit answers a question about 5,000 containers on 200 trees of 600
// packages, from the documents as they are stored.
func BenchmarkAudit(b *testing.B) {
	const trees, packages, containers = 200, 600, 5000
	var documents [trees][]byte
	for i := range documents {
		v := inventory.Inventory{Tree: fmt.Sprintf("%064x", i), Distro: jammy}
		for n := range packages {
			p := inventory.Package{
				Ecosystem: inventory.Deb, Name: fmt.Sprintf("package-%d", n), Version: fmt.Sprintf("1.%d-%dubuntu1", n%9, i%50), Arch: "amd64",
				Path: "var/lib/dpkg/status", Source: fmt.Sprintf("source-%d", n/3),
			}
			p.PURL = inventory.PackageURL(&p, v.Distro)
			v.Packages = append(v.Packages, p)
		}
		var out bytes.Buffer
		if err := inventory.Encode(&out, v); err != nil {
			b.Fatal(err)
		}
		documents[i] = out.Bytes()
	}
	cells := make([]fleet.Cell, 100)
	for i := range containers {
		c := &cells[i%len(cells)]
		c.Name = fmt.Sprint("cell-", i%len(cells))
		c.Containers = append(c.Containers, fleet.Container{Handle: fmt.Sprint(i), Tree: fmt.Sprintf("%064x", i%trees)})
	}
	question := []audit.Advisory{query(b, "source-100 < 1.4-25ubuntu1")}
	b.ResetTimer()
	for b.Loop() {
		var all []audit.Tree
		for i, doc := range documents {
			v, err := inventory.Decode(bytes.NewReader(doc))
			if err != nil {
				b.Fatal(err)
			}
			all = append(all, audit.Tree{ID: v.Tree, Inventory: &v, Versions: []audit.Version{at(fmt.Sprint(i), 1)}})
		}
		r := audit.Run(question, all, cells)
		if len(r.Findings) == 0 || slices.ContainsFunc(r.Findings, func(f audit.Finding) bool { return len(f.Containers) != containers/trees }) {
			b.Fatalf("%d findings", len(r.Findings))
		}
	}
}
