// Package inventory is what is known of the software in a tree: the packages
// that its own databases and files name, and what of them was not read.
//
// This package is the vocabulary and the document, packages.json, that the
// publisher files beside each tree. Package packages finds the packages while
// a tree streams by, package version orders their versions, package sbom says
// the same in SPDX and CycloneDX, and package audit asks which trees, versions,
// channels and containers have a package in question.
//
// What is here comes from the trees of strangers: it is bounded when it is
// read, and believed no further than "the tree says so".
package inventory

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ErrInvalid reports a document that is not an inventory.
var ErrInvalid = errors.New("not a packages document")

// Format is the version of packages.json this package writes and reads.
const Format = 1

// MaxDocument bounds packages.json when it is read back, in bytes.
const MaxDocument = 256 << 20

// Ecosystem is where a package comes from, spelled as the type of its package
// URL.
type Ecosystem string

// The ecosystems that are read. Generic is what a buildpack brings by itself:
// a node, a ruby, a jdk. RPM is only ever named as not read.
const (
	Deb     Ecosystem = "deb"
	APK     Ecosystem = "apk"
	RPM     Ecosystem = "rpm"
	NPM     Ecosystem = "npm"
	PyPI    Ecosystem = "pypi"
	Gem     Ecosystem = "gem"
	Maven   Ecosystem = "maven"
	Golang  Ecosystem = "golang"
	Generic Ecosystem = "generic"
)

// Distro is the system a tree says it is, from os-release. All may be empty.
type Distro struct {
	ID      string `json:"id,omitempty"`      // debian, ubuntu, alpine
	Version string `json:"version,omitempty"` // 12, 22.04
	Name    string `json:"name,omitempty"`    // for people
}

// Package is one package that a tree says it has.
type Package struct {
	Ecosystem Ecosystem `json:"ecosystem"`
	// Name is complete: @scope/name, group:artifact, a Go module's path.
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"arch,omitempty"`
	// Path is the file that says so, relative to the tree's root; of
	// something in an archive, the archive's path, "!/" and the path in it.
	Path string `json:"path"`
	// Source and SourceVersion name the source package it was built from
	// where that is another one: what advisories of distributions speak of.
	Source        string `json:"source,omitempty"`
	SourceVersion string `json:"source_version,omitempty"`
	License       string `json:"license,omitempty"` // as stated, in the package's own words
	SHA256        string `json:"sha256,omitempty"`  // of the package's archive, where stated
	// Stacks are the Cloud Foundry stacks a buildpack's dependency is for.
	Stacks []string `json:"stacks,omitempty"`
	PURL   string   `json:"purl"`
}

// Gap is something that may name packages and was not read.
type Gap struct {
	Ecosystem Ecosystem `json:"ecosystem"`
	Path      string    `json:"path"`
	Reason    string    `json:"reason"`
}

// Inventory is what a tree's packages.json says.
type Inventory struct {
	Format   int       `json:"format"`
	Tree     string    `json:"tree"` // tree id, 64 hex digits
	Distro   Distro    `json:"distro"`
	Packages []Package `json:"packages"`
	NotRead  []Gap     `json:"not_read"`
}

// Normalize brings v into its one order and drops what is said twice: the same
// package of the same version at the same path.
func (v *Inventory) Normalize() {
	slices.SortFunc(v.Packages, comparePackages)
	v.Packages = slices.CompactFunc(v.Packages, func(a, b Package) bool { return comparePackages(a, b) == 0 })
	slices.SortFunc(v.NotRead, compareGaps)
	v.NotRead = slices.CompactFunc(v.NotRead, func(a, b Gap) bool { return compareGaps(a, b) == 0 })
}

func comparePackages(a, b Package) int {
	return first(
		strings.Compare(string(a.Ecosystem), string(b.Ecosystem)), strings.Compare(a.Name, b.Name),
		strings.Compare(a.Version, b.Version), strings.Compare(a.Arch, b.Arch), strings.Compare(a.Path, b.Path),
		strings.Compare(a.SHA256, b.SHA256), slices.Compare(a.Stacks, b.Stacks),
		strings.Compare(a.Source, b.Source), strings.Compare(a.SourceVersion, b.SourceVersion), strings.Compare(a.License, b.License),
	)
}

func compareGaps(a, b Gap) int {
	return first(strings.Compare(string(a.Ecosystem), string(b.Ecosystem)), strings.Compare(a.Path, b.Path), strings.Compare(a.Reason, b.Reason))
}

func first(results ...int) int {
	for _, r := range results {
		if r != 0 {
			return r
		}
	}
	return 0
}

// Encode writes packages.json: indented by one space, in the order of
// [Inventory.Normalize], the same bytes for the same inventory.
func Encode(w io.Writer, v Inventory) error {
	v.Format = Format
	v.Packages, v.NotRead = slices.Clone(v.Packages), slices.Clone(v.NotRead)
	v.Normalize()
	if v.Packages == nil {
		v.Packages = []Package{}
	}
	if v.NotRead == nil {
		v.NotRead = []Gap{}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write packages: %w", err)
	}
	return nil
}

// Decode reads packages.json. Its errors wrap [ErrInvalid] for what is not one
// of this format. It reads at most [MaxDocument] bytes of r.
func Decode(r io.Reader) (Inventory, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxDocument+1))
	if err != nil {
		return Inventory{}, fmt.Errorf("read packages: %w", err)
	}
	if len(b) > MaxDocument {
		return Inventory{}, fmt.Errorf("%w: more than %d bytes", ErrInvalid, MaxDocument)
	}
	var v Inventory
	if err := json.Unmarshal(b, &v); err != nil {
		return Inventory{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if v.Format != Format {
		return Inventory{}, fmt.Errorf("%w: format %d, this program reads %d", ErrInvalid, v.Format, Format)
	}
	return v, nil
}
