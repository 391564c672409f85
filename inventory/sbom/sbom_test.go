package sbom_test

import (
	"bytes"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/santhosh-tekuri/jsonschema/v6"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"

	"github.com/rootstock-cf/rootstock/inventory"
	"github.com/rootstock-cf/rootstock/inventory/sbom"
)

func subject() sbom.Subject {
	v := inventory.Inventory{
		Tree:   strings.Repeat("ab", 32),
		Distro: inventory.Distro{ID: "ubuntu", Version: "22.04", Name: "Ubuntu 22.04.5 LTS"},
		Packages: []inventory.Package{
			{Ecosystem: inventory.NPM, Name: "@babel/core", Version: "7.1.0", Path: "node_modules/@babel/core/package.json", License: "MIT"},
			{Ecosystem: inventory.Deb, Name: "libssl3", Version: "3.0.2-0ubuntu1.17", Arch: "amd64", Path: "var/lib/dpkg/status", Source: "openssl"},
			{Ecosystem: inventory.Maven, Name: "org.yaml:snakeyaml", Version: "1.33", Path: "a.jar!/META-INF/maven/x/pom.properties"},
			{Ecosystem: inventory.Generic, Name: "node", Version: "20.1.0", Path: "manifest.yml", SHA256: strings.Repeat("0f", 32), Stacks: []string{"cflinuxfs4"}},
		},
		NotRead: []inventory.Gap{{Ecosystem: inventory.RPM, Path: "var/lib/rpm/Packages", Reason: "this format is not read"}},
	}
	for i := range v.Packages {
		v.Packages[i].PURL = inventory.PackageURL(&v.Packages[i], v.Distro)
	}
	return sbom.Subject{Inventory: v, Created: time.Unix(1700000000, 5)}
}

func TestSPDX(t *testing.T) {
	var b bytes.Buffer
	if err := sbom.SPDX(&b, subject()); err != nil {
		t.Fatal(err)
	}
	doc, err := spdxjson.Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		t.Error(err)
	}
	ids, err := spdxlib.GetDescribedPackageIDs(doc)
	if err != nil || len(ids) != 1 || ids[0] != "Tree" {
		t.Errorf("it describes %v, %v", ids, err)
	}
	if len(doc.Packages) != 5 || len(doc.Relationships) != 5 || doc.SPDXVersion != "SPDX-2.3" {
		t.Errorf("%s with %d packages and %d relationships", doc.SPDXVersion, len(doc.Packages), len(doc.Relationships))
	}
	if doc.CreationInfo.Created != "2023-11-14T22:13:20Z" || !strings.Contains(doc.DocumentComment, "var/lib/rpm/Packages") {
		t.Errorf("created %s, comment %q", doc.CreationInfo.Created, doc.DocumentComment)
	}
	ssl := doc.Packages[1]
	if ssl.PackageName != "libssl3" || ssl.PackageExternalReferences[0].Locator != "pkg:deb/ubuntu/libssl3@3.0.2-0ubuntu1.17?arch=amd64&distro=ubuntu-22.04" ||
		ssl.PackageComment != "built from openssl" {
		t.Errorf("%+v", ssl)
	}
}

func TestCycloneDX(t *testing.T) {
	var b bytes.Buffer
	if err := sbom.CycloneDX(&b, subject()); err != nil {
		t.Fatal(err)
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(b.Bytes()), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	if bom.SpecVersion != cdx.SpecVersion1_6 || bom.Components == nil || len(*bom.Components) != 4 {
		t.Fatalf("version %s, components %v", bom.SpecVersion, bom.Components)
	}
	groups := []string{}
	for _, c := range *bom.Components {
		groups = append(groups, c.Group+"|"+c.Name+"|"+c.Version)
	}
	if want := []string{"|libssl3|3.0.2-0ubuntu1.17", "|node|20.1.0", "org.yaml|snakeyaml|1.33", "@babel|core|7.1.0"}; !slices.Equal(groups, want) {
		t.Errorf("components %q, want %q", groups, want)
	}
}

// The schema of CycloneDX 1.6, which comes with its library, is applied by a
// validator of JSON schemas.
func TestCycloneDXSchema(t *testing.T) {
	schema := cycloneDX(t)
	validate := func(text []byte) error {
		t.Helper()
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(v)
	}
	for name, s := range map[string]sbom.Subject{"full": subject(), "empty": {Inventory: inventory.Inventory{Tree: strings.Repeat("00", 32)}}} {
		var b bytes.Buffer
		if err := sbom.CycloneDX(&b, s); err != nil {
			t.Fatal(err)
		}
		if err := validate(b.Bytes()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for text, wrong := range map[string]string{
		`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"name":"x"}]}`:                                              "type",
		`{"bomFormat":"CycloneDX","specVersion":"1.6","serialNumber":"urn:uuid:1"}`:                                              "serialNumber",
		`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"type":"library","name":"x","licenses":[{"license":{}}]}]}`: "license",
	} {
		if err := validate([]byte(text)); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// cycloneDX compiles the schema with the two others that it names.
func cycloneDX(t *testing.T) *jsonschema.Schema {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	const at = "http://cyclonedx.org/schema/"
	for _, r := range []struct{ uri, file string }{
		{"bom-1.6.schema.json", "bom-1.6.schema.json"}, {"spdx.schema.json", "spdx.schema.json"}, {"jsf-0.82.schema.json", "jsf-0.82.schemax.json"},
	} {
		f, err := os.Open(filepath.Join(strings.TrimSpace(string(dir)), "schema", r.file))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		v, err := jsonschema.UnmarshalJSON(f)
		if err != nil {
			t.Fatalf("%s: %v", r.file, err)
		}
		if err := c.AddResource(at+r.uri, v); err != nil {
			t.Fatalf("%s: %v", r.file, err)
		}
	}
	schema, err := c.Compile(at + "bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func TestOneInventoryOneDocument(t *testing.T) {
	for name, write := range map[string]func(*bytes.Buffer, sbom.Subject) error{
		"spdx": func(b *bytes.Buffer, s sbom.Subject) error { return sbom.SPDX(b, s) },
		"cdx":  func(b *bytes.Buffer, s sbom.Subject) error { return sbom.CycloneDX(b, s) },
	} {
		var a, b bytes.Buffer
		s := subject()
		if err := write(&a, s); err != nil {
			t.Fatal(err)
		}
		slices.Reverse(s.Inventory.Packages)
		before := slices.Clone(s.Inventory.Packages)
		if err := write(&b, s); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Errorf("%s: the order of packages shows", name)
		}
		if !slices.EqualFunc(before, s.Inventory.Packages, func(a, b inventory.Package) bool { return a.PURL == b.PURL }) {
			t.Errorf("%s: the caller's inventory was changed", name)
		}
	}
}

// A tree's times are anybody's to choose.
func TestAbsurdTimes(t *testing.T) {
	for at, want := range map[int64]string{-1: "1970-01-01T00:00:00Z", math.MaxInt64 / 4: "9999-12-31T23:59:59Z"} {
		s := subject()
		s.Created = time.Unix(at, 0)
		var b bytes.Buffer
		if err := sbom.SPDX(&b, s); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), `"created": "`+want) {
			t.Errorf("%d is not written as %s", at, want)
		}
	}
}
