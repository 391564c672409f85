package sbom

import (
	"fmt"
	"io"
	"slices"
	"strings"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/rootstock-cf/rootstock/inventory"
)

const (
	noAssertion = "NOASSERTION"
	spdxRoot    = "Tree"
)

// SPDX writes s as an SPDX 2.3 document. Licences are stated in a package's
// own words, which seldom are SPDX expressions, so they are comments and the
// declared licence is not asserted.
func SPDX(w io.Writer, s Subject) error {
	v := s.Inventory
	v.Packages, v.NotRead = slices.Clone(v.Packages), slices.Clone(v.NotRead)
	v.Normalize()
	doc := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName:      s.name(),
		DocumentNamespace: "https://github.com/rootstock-cf/rootstock/spdx/" + s.name(),
		CreationInfo: &spdx.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Tool", Creator: tool}},
			Created:  s.created(),
		},
	}
	var gaps []string
	for _, g := range v.NotRead {
		gaps = append(gaps, unread(g))
	}
	doc.DocumentComment = strings.Join(gaps, "\n")
	doc.Packages = append(doc.Packages, &spdx.Package{
		PackageName: s.name(), PackageSPDXIdentifier: spdxRoot, PackageVersion: v.Tree,
		PackageDownloadLocation: noAssertion, PackageSummary: v.Distro.Name, PrimaryPackagePurpose: "OPERATING-SYSTEM",
		PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: noAssertion, PackageCopyrightText: noAssertion,
	})
	doc.Relationships = append(doc.Relationships, relate("DOCUMENT", "DESCRIBES", spdxRoot))
	for i := range v.Packages {
		p := spdxPackage(&v.Packages[i], i)
		doc.Packages = append(doc.Packages, p)
		doc.Relationships = append(doc.Relationships, relate(spdxRoot, "CONTAINS", p.PackageSPDXIdentifier))
	}
	if err := spdxjson.Write(doc, w, spdxjson.Indent(" ")); err != nil {
		return fmt.Errorf("write SPDX: %w", err)
	}
	return nil
}

func relate(a common.ElementID, how string, b common.ElementID) *spdx.Relationship {
	return &spdx.Relationship{RefA: common.MakeDocElementID("", string(a)), Relationship: how, RefB: common.MakeDocElementID("", string(b))}
}

func spdxPackage(p *inventory.Package, i int) *spdx.Package {
	out := &spdx.Package{
		PackageName: p.Name, PackageVersion: p.Version,
		PackageSPDXIdentifier:   common.ElementID(fmt.Sprintf("Package-%d", i+1)),
		PackageDownloadLocation: noAssertion, PackageSourceInfo: "named by " + p.Path,
		PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: noAssertion, PackageCopyrightText: noAssertion,
		PackageExternalReferences: []*spdx.PackageExternalReference{{Category: "PACKAGE-MANAGER", RefType: "purl", Locator: p.PURL}},
	}
	if p.License != "" {
		out.PackageLicenseComments = "stated as: " + p.License
	}
	if p.Source != "" || p.SourceVersion != "" {
		out.PackageComment = strings.TrimSpace("built from " + strings.TrimSpace(p.Source+" "+p.SourceVersion))
	}
	if p.SHA256 != "" {
		out.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: p.SHA256}}
	}
	return out
}
