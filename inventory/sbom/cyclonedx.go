package sbom

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"github.com/rootstock-cf/rootstock/inventory"
)

// CycloneDX writes s as a CycloneDX 1.6 document.
func CycloneDX(w io.Writer, s Subject) error {
	v := s.Inventory
	v.Packages, v.NotRead = slices.Clone(v.Packages), slices.Clone(v.NotRead)
	v.Normalize()
	bom := cdx.NewBOM()
	bom.SerialNumber = serial(v.Tree)
	bom.Metadata = &cdx.Metadata{
		Timestamp: s.created(),
		Tools:     &cdx.ToolsChoice{Components: &[]cdx.Component{{Type: cdx.ComponentTypeApplication, Name: tool}}},
		Component: &cdx.Component{
			BOMRef: "tree", Type: cdx.ComponentTypeOS, Name: cmp.Or(v.Distro.ID, s.name()),
			Version: cmp.Or(v.Distro.Version, v.Tree), Description: v.Distro.Name,
		},
		Properties: &[]cdx.Property{{Name: "rootstock:tree", Value: v.Tree}},
	}
	for _, g := range v.NotRead {
		*bom.Metadata.Properties = append(*bom.Metadata.Properties, cdx.Property{Name: "rootstock:gap", Value: unread(g)})
	}
	components := make([]cdx.Component, 0, len(v.Packages))
	refs := make([]string, 0, len(v.Packages))
	for i := range v.Packages {
		c := component(&v.Packages[i], i)
		components, refs = append(components, c), append(refs, c.BOMRef)
	}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: "tree", Dependencies: &refs}}
	if err := cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return fmt.Errorf("write CycloneDX: %w", err)
	}
	return nil
}

func component(p *inventory.Package, i int) cdx.Component {
	c := cdx.Component{
		BOMRef: fmt.Sprintf("package-%d", i+1), Type: cdx.ComponentTypeLibrary,
		Name: p.Name, Version: p.Version, PackageURL: p.PURL,
		Properties: &[]cdx.Property{{Name: "rootstock:path", Value: p.Path}},
	}
	add := func(name, value string) {
		if value != "" {
			*c.Properties = append(*c.Properties, cdx.Property{Name: "rootstock:" + name, Value: value})
		}
	}
	add("source", p.Source)
	add("source_version", p.SourceVersion)
	add("stacks", strings.Join(p.Stacks, " "))
	switch p.Ecosystem {
	case inventory.NPM:
		if scope, name, ok := strings.Cut(p.Name, "/"); ok {
			c.Group, c.Name = scope, name
		}
	case inventory.Maven:
		c.Group, c.Name, _ = strings.Cut(p.Name, ":")
	}
	if p.License != "" {
		c.Licenses = &cdx.Licenses{{License: &cdx.License{Name: p.License}}}
	}
	if p.SHA256 != "" {
		c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: p.SHA256}}
	}
	return c
}

// serial is a UUID made of the tree's id (RFC 9562, version 8).
func serial(tree string) string {
	u := sha256.Sum256([]byte("rootstock cyclonedx " + tree))
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:16])
}
