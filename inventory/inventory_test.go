package inventory_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	packageurl "github.com/package-url/packageurl-go"

	"github.com/rootstock-cf/rootstock/inventory"
)

func TestDocument(t *testing.T) {
	v := inventory.Inventory{
		Tree: strings.Repeat("ab", 32),
		Packages: []inventory.Package{
			{Ecosystem: inventory.NPM, Name: "b", Version: "1.0.0", Path: "x", PURL: "pkg:npm/b@1.0.0"},
			{Ecosystem: inventory.Deb, Name: "a<b>", Version: "1", Path: "x", Stacks: []string{"s"}},
			{Ecosystem: inventory.NPM, Name: "b", Version: "1.0.0", Path: "x", PURL: "pkg:npm/b@1.0.0"},
			{Ecosystem: inventory.NPM, Name: "b", Version: "1.0.0", Path: "y"},
		},
		NotRead: []inventory.Gap{{Ecosystem: inventory.RPM, Path: "p", Reason: "r"}, {Ecosystem: inventory.RPM, Path: "p", Reason: "r"}},
	}
	var a, b bytes.Buffer
	if err := inventory.Encode(&a, v); err != nil {
		t.Fatal(err)
	}
	if len(v.Packages) != 4 || v.Packages[0].Name != "b" {
		t.Error("Encode changed the caller's packages")
	}
	slices.Reverse(v.Packages)
	if err := inventory.Encode(&b, v); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("one inventory has two documents")
	}
	got, err := inventory.Decode(&a)
	if err != nil {
		t.Fatal(err)
	}
	names := ""
	for _, p := range got.Packages {
		names += p.Name + "@" + p.Path + " "
	}
	if names != "a<b>@x b@x b@y " || len(got.NotRead) != 1 || got.Tree != v.Tree {
		t.Errorf("read back: %q, %v", names, got.NotRead)
	}
}

func TestEmptyDocumentHasLists(t *testing.T) {
	var b bytes.Buffer
	if err := inventory.Encode(&b, inventory.Inventory{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"packages": []`, `"not_read": []`, `"format": 1`} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %s in %s", want, b.String())
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, bad := range []string{"", "[]", `{"format":2}`, `{}`, `{"format":1,"packages":{}}`} {
		if v, err := inventory.Decode(strings.NewReader(bad)); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%q: %+v, %v", bad, v, err)
		}
	}
}

// Every package URL is one that the library reads back as the package.
func TestPackageURLs(t *testing.T) {
	for _, c := range []struct {
		p    inventory.Package
		want string
	}{
		{inventory.Package{Ecosystem: inventory.Deb, Name: "libc++1", Version: "1:14.0+x~y", Arch: "amd64"}, "pkg:deb/ubuntu/libc%2B%2B1@1:14.0%2Bx~y?arch=amd64&distro=ubuntu-22.04"},
		{inventory.Package{Ecosystem: inventory.NPM, Name: "@babel/core", Version: "7.1.0"}, "pkg:npm/%40babel/core@7.1.0"},
		{inventory.Package{Ecosystem: inventory.Golang, Name: "golang.org/x/net", Version: "v0.7.0"}, "pkg:golang/golang.org/x/net@v0.7.0"},
		{inventory.Package{Ecosystem: inventory.Maven, Name: "org.yaml:snakeyaml", Version: "1.33"}, "pkg:maven/org.yaml/snakeyaml@1.33"},
		{inventory.Package{Ecosystem: inventory.PyPI, Name: "Zope._Interface", Version: "5"}, "pkg:pypi/zope-interface@5"},
		{inventory.Package{Ecosystem: inventory.Gem, Name: "rake", Version: "13.0.6"}, "pkg:gem/rake@13.0.6"},
	} {
		got := inventory.PackageURL(&c.p, inventory.Distro{ID: "ubuntu", Version: "22.04"})
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.p.Name, got, c.want)
		}
		back, err := packageurl.FromString(got)
		if err != nil || back.Version != c.p.Version || back.ToString() != got {
			t.Errorf("%s reads back as %+v, %v", got, back, err)
		}
	}
}
