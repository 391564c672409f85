package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/rootstock-cf/rootstock/inventory"
)

// maxAdvisories bounds a file of advisories, in bytes: all of a distribution's
// fit.
const maxAdvisories = 1 << 30

// osv is what is used of an advisory in the OSV format (ossf.github.io/osv-schema).
type osv struct {
	ID        string   `json:"id"`
	Aliases   []string `json:"aliases"`
	Summary   string   `json:"summary"`
	Withdrawn string   `json:"withdrawn"`
	Affected  []struct {
		Package struct {
			Ecosystem string `json:"ecosystem"`
			Name      string `json:"name"`
		} `json:"package"`
		Versions []string `json:"versions"`
		Ranges   []struct {
			Type   string              `json:"type"`
			Events []map[string]string `json:"events"`
		} `json:"ranges"`
	} `json:"affected"`
}

// osvEcosystems maps OSV's names; those of distributions go with a release
// behind a colon.
var osvEcosystems = map[string]struct {
	ecosystem inventory.Ecosystem
	distro    string
}{
	"Debian": {inventory.Deb, "debian"}, "Ubuntu": {inventory.Deb, "ubuntu"}, "Alpine": {inventory.APK, "alpine"},
	"npm": {inventory.NPM, ""}, "PyPI": {inventory.PyPI, ""}, "RubyGems": {inventory.Gem, ""}, "Maven": {inventory.Maven, ""}, "Go": {inventory.Golang, ""},
}

// ParseOSV reads advisories in the OSV format: one or several objects, a list
// of them, or an object with "vulns". Withdrawn ones, and packages of
// ecosystems no tree is read for, are left out. skipped counts those packages.
func ParseOSV(r io.Reader) (all []Advisory, skipped int, err error) {
	limited := &io.LimitedReader{R: r, N: maxAdvisories + 1}
	dec := json.NewDecoder(limited)
	for n := 0; ; n++ {
		var raw json.RawMessage
		err := dec.Decode(&raw)
		switch {
		case limited.N <= 0:
			return nil, 0, fmt.Errorf("advisories: more than %d bytes", maxAdvisories)
		case errors.Is(err, io.EOF) && n > 0:
			return all, skipped, nil
		case err != nil:
			return nil, 0, fmt.Errorf("advisories: not JSON in the OSV format: %w", err)
		}
		list, err := osvList(raw)
		if err != nil {
			return nil, 0, fmt.Errorf("advisories: not in the OSV format: %w", err)
		}
		for i := range list {
			a, left, err := list[i].advisory()
			if err != nil {
				return nil, 0, fmt.Errorf("advisories: %w", err)
			}
			skipped += left
			if list[i].Withdrawn == "" && len(a.Affected) > 0 {
				all = append(all, a)
			}
		}
	}
}

func osvList(raw json.RawMessage) (list []osv, err error) {
	if bytes.HasPrefix(raw, []byte("[")) {
		return list, json.Unmarshal(raw, &list)
	}
	var doc struct {
		Vulns []osv `json:"vulns"`
		osv
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, err
	}
	if doc.Vulns != nil {
		return doc.Vulns, nil
	}
	return []osv{doc.osv}, nil
}

func (o *osv) advisory() (a Advisory, skipped int, err error) {
	if o.ID == "" {
		return a, 0, errors.New("one has no id")
	}
	a = Advisory{ID: o.ID, Aliases: o.Aliases, Summary: o.Summary}
	for _, x := range o.Affected {
		name, release, _ := strings.Cut(x.Package.Ecosystem, ":")
		e, ok := osvEcosystems[name]
		if !ok {
			skipped++
			continue
		}
		out := Affected{Ecosystem: e.ecosystem, Name: x.Package.Name, Versions: x.Versions, Distro: inventory.Distro{ID: e.distro}}
		if e.distro != "" {
			out.Distro.Version = osvRelease(release)
		}
		for _, r := range x.Ranges {
			if r.Type == "GIT" {
				continue // commits, not versions
			}
			out.Ranges = append(out.Ranges, osvRanges(r.Events)...)
		}
		a.Affected = append(a.Affected, out)
	}
	return a, skipped, nil
}

// osvRelease is the version in "22.04:LTS", "Pro:22.04:LTS" or "v3.18".
func osvRelease(text string) string {
	for part := range strings.SplitSeq(text, ":") {
		part = strings.TrimPrefix(part, "v")
		if part != "" && part[0] >= '0' && part[0] <= '9' {
			return part
		}
	}
	return ""
}

// osvRanges turns the events of a range, which come in order, into spans.
func osvRanges(events []map[string]string) (all []Range) {
	open := false
	var r Range
	for _, e := range events {
		if v, ok := e["introduced"]; ok {
			if open {
				all = append(all, r)
			}
			r, open = Range{Introduced: v}, true
		}
		if !open {
			continue
		}
		fixed, isFixed := e["fixed"]
		last, isLast := e["last_affected"]
		if isFixed || isLast {
			r.Fixed, r.Last = fixed, last
			all, open = append(all, r), false
		}
	}
	if open {
		all = append(all, r)
	}
	return all
}
