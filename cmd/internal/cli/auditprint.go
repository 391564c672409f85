package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rootstock-cf/rootstock/inventory"
	"github.com/rootstock-cf/rootstock/inventory/audit"
	"github.com/rootstock-cf/rootstock/inventory/fleet"
)

// The lines of `rootstock audit --json`.
type (
	auditFindingLine struct {
		MessageType string          `json:"message_type"` // "finding"
		Advisory    string          `json:"advisory"`
		Aliases     []string        `json:"aliases,omitempty"`
		Affected    bool            `json:"affected"` // otherwise not known to be clean
		Tree        string          `json:"tree"`
		Droplet     bool            `json:"droplet,omitempty"` // tree is a droplet's digest
		Versions    []string        `json:"versions"`
		Channels    []string        `json:"channels"`
		Packages    []packageLine   `json:"packages"`
		Unknown     []packageLine   `json:"unknown"`
		NotRead     []inventory.Gap `json:"not_read"`
		Clean       []cleanLine     `json:"clean"`
		Containers  []containerLine `json:"containers"`
		Opened      []openedLine    `json:"opened"` // of other cells it is unknown
	}
	openedLine struct {
		Cell     string `json:"cell"`
		Contents int    `json:"contents"` // of the affected packages, that were opened there
	}
	packageLine struct {
		PURL    string `json:"purl"`
		Name    string `json:"name"`
		Version string `json:"version"`
		Source  string `json:"source,omitempty"`
		Path    string `json:"path"`
		Reason  string `json:"reason,omitempty"`
	}
	cleanLine struct {
		Name    string `json:"name"`
		Version string `json:"version,omitempty"`
	}
	containerLine struct {
		Cell   string    `json:"cell"`
		Handle string    `json:"handle"`
		Ref    string    `json:"ref"`
		Since  time.Time `json:"since"`

		Version string `json:"version,omitempty"`
		Droplet string `json:"droplet,omitempty"`
		fleet.App
	}
	notNotedLine struct {
		MessageType string   `json:"message_type"` // "not_noted"
		Tree        string   `json:"tree"`
		Versions    []string `json:"versions"`
	}
	notReadLine struct {
		MessageType string `json:"message_type"` // "droplet_not_read"
		Droplet     string `json:"droplet"`
	}
	silentLine struct {
		MessageType string `json:"message_type"` // "unreachable_cell"
		Cell        string `json:"cell"`
		Error       string `json:"error"`
	}
	strangerLine struct {
		MessageType string `json:"message_type"` // "unknown_tree"
		Tree        string `json:"tree"`
		containerLine
	}
	auditSummary struct {
		MessageType        string `json:"message_type"` // "summary"
		Affected           bool   `json:"affected"`
		Complete           bool   `json:"complete"`
		Trees              int    `json:"trees"`
		TreesAffected      int    `json:"trees_affected"`
		TreesNotNoted      int    `json:"trees_not_noted"`
		Droplets           int    `json:"droplets"`
		DropletsAffected   int    `json:"droplets_affected"`
		DropletsNotRead    int    `json:"droplets_not_read"`
		Cells              int    `json:"cells"`
		CellsAffected      int    `json:"cells_affected"`
		CellsUnreachable   int    `json:"cells_unreachable"`
		Containers         int    `json:"containers"`
		ContainersAffected int    `json:"containers_affected"`
		ContainersUnknown  int    `json:"containers_on_unknown_trees"`
		AdvisoriesSkipped  int    `json:"advisory_packages_not_read"`
	}
)

// auditPrinter writes a report.
type auditPrinter struct {
	w     io.Writer
	r     *audit.Report
	trees int
	// droplets that cells run
	droplets int
	skipped  int
}

func (p *auditPrinter) summary() auditSummary {
	s := auditSummary{
		MessageType: "summary", Affected: p.r.Affected(), Complete: p.r.Complete(),
		Trees: p.trees, TreesNotNoted: len(p.r.NotNoted), Droplets: p.droplets, DropletsNotRead: len(p.r.NotRead), Cells: p.r.Cells, CellsUnreachable: len(p.r.Silent),
		Containers: p.r.Running, ContainersUnknown: len(p.r.Strangers), AdvisoriesSkipped: p.skipped,
	}
	trees, cells, containers := map[string]bool{}, map[string]bool{}, map[[2]string]bool{}
	for i := range p.r.Findings {
		f := &p.r.Findings[i]
		if !f.Affected() || trees[f.Tree.ID] {
			continue
		}
		trees[f.Tree.ID] = true
		if f.Tree.Droplet {
			s.DropletsAffected++
		}
		for _, c := range f.Containers {
			cells[c.Cell] = true
			containers[[2]string{c.Cell, c.Handle}] = true
		}
	}
	s.TreesAffected, s.CellsAffected, s.ContainersAffected = len(trees)-s.DropletsAffected, len(cells), len(containers)
	return s
}

func (p *auditPrinter) json() error {
	var lines []any
	for i := range p.r.Findings {
		lines = append(lines, findingOf(&p.r.Findings[i]))
	}
	for _, t := range p.r.NotNoted {
		lines = append(lines, notNotedLine{"not_noted", t.ID, names(t)})
	}
	for _, t := range p.r.NotRead {
		lines = append(lines, notReadLine{"droplet_not_read", t.ID})
	}
	for _, c := range p.r.Silent {
		lines = append(lines, silentLine{"unreachable_cell", c.Name, c.Err.Error()})
	}
	for _, c := range p.r.Strangers {
		lines = append(lines, strangerLine{"unknown_tree", c.Tree, containerOf(c)})
	}
	for _, l := range append(lines, p.summary()) {
		if err := line(p.w, l); err != nil {
			return err
		}
	}
	return nil
}

func findingOf(f *audit.Finding) auditFindingLine {
	l := auditFindingLine{
		MessageType: "finding", Advisory: f.Advisory.ID, Aliases: f.Advisory.Aliases, Affected: f.Affected(), Tree: f.Tree.ID, Droplet: f.Tree.Droplet,
		Versions: names(f.Tree), Channels: channelsOf(f.Tree),
		Packages: packagesOf(f.Hits), Unknown: packagesOf(f.Unknown), NotRead: append([]inventory.Gap{}, f.Gaps...),
		Clean: []cleanLine{}, Containers: []containerLine{}, Opened: []openedLine{},
	}
	for _, cell := range slices.Sorted(maps.Keys(f.Opened)) {
		l.Opened = append(l.Opened, openedLine{cell, f.Opened[cell]})
	}
	for _, c := range f.Clean {
		l.Clean = append(l.Clean, cleanLine{c.Name, c.Version})
	}
	for _, c := range f.Containers {
		l.Containers = append(l.Containers, containerOf(c))
	}
	return l
}

func packagesOf(hits []audit.Hit) []packageLine {
	all := []packageLine{}
	for _, h := range hits {
		all = append(all, packageLine{h.PURL, h.Name, h.Version, h.Source, h.Path, h.Reason})
	}
	return all
}

func containerOf(c audit.Running) containerLine {
	return lineOf(c.Cell, &c.Container)
}

func lineOf(cell string, c *fleet.Container) containerLine {
	return containerLine{
		Cell: cell, Handle: c.Handle, Ref: c.Ref.String(), Since: c.Since, Version: c.Version, Droplet: c.Droplet, App: c.App,
	}
}

func names(t *audit.Tree) []string {
	all := []string{}
	for _, v := range t.Versions {
		all = append(all, v.Reference.String())
	}
	return all
}

// called is what people know a tree or droplet by.
func called(t *audit.Tree) string {
	if t.Droplet {
		return "droplet " + shown(t.ID)
	}
	return cmp.Or(strings.Join(names(t), ", "), t.ID)
}

func channelsOf(t *audit.Tree) []string {
	all := []string{}
	for _, v := range t.Versions {
		all = append(all, v.Channels...)
	}
	return all
}

// text is for people. What came out of trees and from cells is quoted where it
// could disturb a terminal.
func (p *auditPrinter) text() error {
	for i := range p.r.Findings {
		if f := &p.r.Findings[i]; f.Affected() {
			p.finding(f)
		}
	}
	unread := map[string]bool{}
	for i := range p.r.Findings {
		f := &p.r.Findings[i]
		for _, h := range f.Unknown {
			fmt.Fprintf(p.w, "cannot tell: %s: %s %s: %s\n", called(f.Tree), shown(h.Name), shown(h.Version), shown(h.Reason))
		}
		if !unread[f.Tree.ID] && len(f.Gaps) > 0 {
			unread[f.Tree.ID] = true
			for _, g := range f.Gaps {
				fmt.Fprintf(p.w, "not read: %s: %s: %s\n", called(f.Tree), shown(g.Path), shown(g.Reason))
			}
		}
	}
	for _, t := range p.r.NotNoted {
		fmt.Fprintf(p.w, "no bill of materials: %s; rootstock sbom --backfill makes it\n", strings.Join(names(t), ", "))
	}
	if n := len(p.r.NotRead); n > 0 {
		fmt.Fprintf(p.w, "%d droplets were not read: no cell says what they consist of\n", n)
	}
	for _, c := range p.r.Silent {
		fmt.Fprintf(p.w, "cell %s did not answer: %s\n", shown(c.Name), shown(c.Err.Error()))
	}
	for _, c := range p.r.Strangers {
		fmt.Fprintf(p.w, "cell %s: container %s runs on tree %.12s, which is not published here\n", shown(c.Cell), shown(c.Handle), shown(c.Tree))
	}
	s := p.summary()
	fmt.Fprintf(p.w, "%d of %d trees affected", s.TreesAffected, s.Trees)
	if s.TreesNotNoted > 0 {
		fmt.Fprintf(p.w, ", %d without a bill of materials", s.TreesNotNoted)
	}
	if s.Droplets > 0 {
		fmt.Fprintf(p.w, ", %d of %d droplets", s.DropletsAffected, s.Droplets)
	}
	if s.Cells+s.CellsUnreachable > 0 {
		fmt.Fprintf(p.w, "; %d of %d containers on %d of %d cells affected", s.ContainersAffected, s.Containers, s.CellsAffected, s.Cells)
	}
	if s.CellsUnreachable > 0 {
		fmt.Fprintf(p.w, ", %d cells did not answer", s.CellsUnreachable)
	}
	if p.skipped > 0 {
		fmt.Fprintf(p.w, "; %d packages of advisories are of ecosystems that are not read", p.skipped)
	}
	_, err := fmt.Fprintln(p.w)
	return err
}

func (p *auditPrinter) finding(f *audit.Finding) {
	if f.Tree.Droplet {
		fmt.Fprintf(p.w, "%s\n", called(f.Tree))
	} else {
		fmt.Fprintf(p.w, "%s  (tree %.12s)\n", strings.Join(names(f.Tree), ", "), f.Tree.ID)
	}
	fmt.Fprintf(p.w, "  affected by %s\n", shown(f.Advisory.ID))
	if channels := channelsOf(f.Tree); len(channels) > 0 {
		fmt.Fprintf(p.w, "  channels    %s\n", strings.Join(channels, ", "))
	}
	for _, h := range f.Hits {
		source := ""
		if h.Source != "" {
			source = ", of " + shown(strings.TrimSpace(h.Source+" "+h.SourceVersion))
		}
		fmt.Fprintf(p.w, "  package     %s %s%s  (%s)\n", shown(h.Name), shown(h.Version), source, shown(h.Path))
	}
	for _, c := range f.Clean {
		if c.Version == "" {
			fmt.Fprintf(p.w, "  clean       no published version of %s\n", c.Name)
			continue
		}
		fmt.Fprintf(p.w, "  clean       %s@%s\n", c.Name, c.Version)
	}
	by := map[string][]string{}
	for _, c := range f.Containers {
		by[c.Cell] = append(by[c.Cell], shown(c.Handle))
	}
	var cells []string
	for c := range by {
		cells = append(cells, c)
	}
	slices.Sort(cells)
	const most = 10
	for _, c := range cells {
		handles := by[c]
		more := ""
		if n := len(handles) - most; n > 0 {
			handles, more = handles[:most], fmt.Sprintf(" and %d more", n)
		}
		known := ""
		if n, asked := f.Opened[c], f.Opened != nil; n > 0 {
			known = fmt.Sprintf("; %d affected files were opened there", n)
		} else if asked {
			known = "; whether affected files were opened is unknown"
		}
		fmt.Fprintf(p.w, "  cell        %s: %s%s%s\n", shown(c), strings.Join(handles, ", "), more, known)
	}
	for _, app := range appsOf(f.Containers) {
		fmt.Fprintf(p.w, "  app         %s\n", app)
	}
	if f.Tree.Droplet {
		return // it is the heading
	}
	for _, d := range dropletsOf(f.Containers) {
		fmt.Fprintf(p.w, "  droplet     %s\n", shown(d))
	}
}

// appsOf names the apps of containers, each once.
func appsOf(containers []audit.Running) []string {
	by := map[string]string{}
	for i := range containers {
		if a := &containers[i].App; a.GUID != "" {
			by[a.GUID] = appText(a)
		}
	}
	return slices.Sorted(maps.Values(by))
}

// dropletsOf lists the droplets of containers, each once.
func dropletsOf(containers []audit.Running) []string {
	by := map[string]bool{}
	for i := range containers {
		if d := containers[i].Droplet; d != "" {
			by[d] = true
		}
	}
	return slices.Sorted(maps.Keys(by))
}
