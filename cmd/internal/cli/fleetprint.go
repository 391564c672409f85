package cli

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rootstock-cf/rootstock/inventory/fleet"
	"github.com/rootstock-cf/rootstock/reference"
)

// The lines of `rootstock fleet --json`.
type (
	useLine struct {
		MessageType string              `json:"message_type"` // "version"
		Ref         reference.Reference `json:"ref"`
		Version     string              `json:"version,omitempty"`
		Tree        string              `json:"tree,omitempty"`
		Containers  int                 `json:"containers"`
		Cells       int                 `json:"cells"`
		Behind      int                 `json:"behind"`
		Oldest      *time.Time          `json:"oldest,omitempty"`
	}
	fleetCellLine struct {
		MessageType string `json:"message_type"` // "cell"
		Cell        string `json:"cell"`
		Containers  int    `json:"containers"`
		Behind      int    `json:"behind"`
		GardenError string `json:"garden_error,omitempty"`
	}
	behindLine struct {
		MessageType string `json:"message_type"` // "behind"
		Follows     bool   `json:"follows"`      // a restart moves it
		containerLine
	}
	leadLine struct {
		MessageType string `json:"message_type"` // "channel"
		fleet.Lead
	}
	restartLine struct {
		MessageType string `json:"message_type"` // "restart"
		Wave        int    `json:"wave"`
		Containers  int    `json:"containers"`
		Command     string `json:"command"`
		fleet.App
	}
	fleetSummary struct {
		MessageType      string `json:"message_type"` // "summary"
		Complete         bool   `json:"complete"`
		Cells            int    `json:"cells"`
		CellsUnreachable int    `json:"cells_unreachable"`
		Containers       int    `json:"containers"`
		Behind           int    `json:"behind"`
	}
)

// fleetPrinter writes what a fleet runs. What cells say is quoted where it could
// disturb a terminal.
type fleetPrinter struct {
	w     io.Writer
	json  bool
	each  bool // a row for every cell
	cells []fleet.Cell
	s     *fleet.Summary
}

func (p *fleetPrinter) summary() error {
	t := tabwriter.NewWriter(p.w, 0, 8, 2, ' ', 0)
	if !p.json && len(p.s.Uses) > 0 {
		fmt.Fprintln(t, "REFERENCE\tVERSION\tTREE\tCONTAINERS\tCELLS\tBEHIND\tOLDEST")
	}
	for i := range p.s.Uses {
		u := &p.s.Uses[i]
		var oldest *time.Time
		if !u.Oldest.IsZero() {
			oldest = &u.Oldest
		}
		if !p.json {
			fmt.Fprintf(t, "%s\t%s\t%.12s\t%d\t%d\t%d\t%s\n", u.Ref, cmp.Or(shown(u.Version), "-"), cmp.Or(shown(u.Tree), "-"), u.Containers, u.Cells, u.Behind, when(oldest))
			continue
		}
		if err := line(p.w, useLine{"version", u.Ref, u.Version, u.Tree, u.Containers, u.Cells, u.Behind, oldest}); err != nil {
			return err
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	if err := p.byCell(); err != nil {
		return err
	}
	return p.end()
}

// byCell says what each cell has that answered; of the others, end speaks.
func (p *fleetPrinter) byCell() error {
	leads := fleet.LeadsOf(p.cells)
	t := tabwriter.NewWriter(p.w, 0, 8, 2, ' ', 0)
	if p.each && !p.json {
		fmt.Fprintln(t, "CELL\tCONTAINERS\tBEHIND")
	}
	for i := range p.cells {
		c := &p.cells[i]
		if c.Err != nil {
			continue
		}
		n, behind := c.Sum(leads)
		switch {
		case p.json:
			if err := line(p.w, fleetCellLine{"cell", c.Name, n, behind, c.Garden}); err != nil {
				return err
			}
		case p.each:
			fmt.Fprintf(t, "%s\t%d\t%d\n", shown(c.Name), n, behind)
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	for i := range p.cells {
		if c := &p.cells[i]; c.Garden != "" && !p.json {
			fmt.Fprintf(p.w, "cell %s does not know the apps of its containers: %s\n", shown(c.Name), shown(c.Garden))
		}
	}
	return nil
}

// end says what is missing, and the sum.
func (p *fleetPrinter) end() error {
	for i := range p.s.Silent {
		c := &p.s.Silent[i]
		if !p.json {
			fmt.Fprintf(p.w, "cell %s did not answer: %s\n", shown(c.Name), shown(c.Err.Error()))
		} else if err := line(p.w, silentLine{"unreachable_cell", c.Name, c.Err.Error()}); err != nil {
			return err
		}
	}
	if p.json {
		return line(p.w, fleetSummary{"summary", p.s.Complete(), p.s.Cells, len(p.s.Silent), p.s.Containers, p.s.Behind})
	}
	fmt.Fprintf(p.w, "%d containers on %d cells, %d behind", p.s.Containers, p.s.Cells, p.s.Behind)
	if n := len(p.s.Silent); n > 0 {
		fmt.Fprintf(p.w, "; %d cells did not answer", n)
	}
	_, err := fmt.Fprintln(p.w)
	return err
}

func (p *fleetPrinter) behind(ref reference.Reference, outdated []fleet.Outdated, leads []fleet.Lead) error {
	for _, l := range leads {
		if !p.json {
			fmt.Fprintf(p.w, "%s leads to %s (tree %.12s)\n", l.Ref, shown(l.Version), shown(l.Tree))
		} else if err := line(p.w, leadLine{"channel", l}); err != nil {
			return err
		}
	}
	t := tabwriter.NewWriter(p.w, 0, 8, 2, ' ', 0)
	if !p.json && len(outdated) > 0 {
		fmt.Fprintln(t, "CELL\tHANDLE\tVERSION\tAPP\tSPACE\tSINCE\t")
	}
	for i := range outdated {
		o := &outdated[i]
		if p.json {
			if err := line(p.w, behindLine{"behind", o.Follows, lineOf(o.Cell, &o.Container)}); err != nil {
				return err
			}
			continue
		}
		note := ""
		if !o.Follows {
			note = "asked for as " + o.Ref.String() + ": a restart does not move it"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", shown(o.Cell), shown(o.Handle), cmp.Or(shown(o.Version), "-"),
			cmp.Or(shown(o.AppName), shown(o.GUID), "-"), cmp.Or(shown(o.SpaceName), shown(o.Space), "-"), when(&o.Since), note)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	if len(leads) == 0 && !p.json {
		fmt.Fprintf(p.w, "no container runs on %s/%s\n", ref.Kind, ref.Name)
	}
	return p.end()
}

// restarts prints commands only, so that the output can be run; what is missing
// goes to notes.
func (p *fleetPrinter) restarts(notes io.Writer, outdated []fleet.Outdated, wave int) error {
	all, unknown := fleet.Restarts(outdated, wave)
	waves := 0
	if len(all) > 0 {
		waves = all[len(all)-1].Wave
	}
	for i := range all {
		r := &all[i]
		if p.json {
			if err := line(p.w, restartLine{"restart", r.Wave, r.Containers, r.Command(), r.App}); err != nil {
				return err
			}
			continue
		}
		if i == 0 || all[i-1].Wave != r.Wave {
			fmt.Fprintf(p.w, "# wave %d of %d\n", r.Wave, waves)
		}
		fmt.Fprintf(p.w, "%s  # %d containers\n", r.Command(), r.Containers)
	}
	pinned := 0
	for i := range outdated {
		if !outdated[i].Follows {
			pinned++
		}
	}
	for _, n := range []struct {
		count int
		text  string
	}{
		{unknown, "containers are behind and no app is known of them: configure garden on their cells"},
		{pinned, "containers were asked for by a version or another channel: a restart does not move them"},
	} {
		if n.count > 0 {
			fmt.Fprintf(notes, "%d %s\n", n.count, n.text)
		}
	}
	for i := range p.s.Silent {
		fmt.Fprintf(notes, "cell %s did not answer: %s\n", shown(p.s.Silent[i].Name), shown(p.s.Silent[i].Err.Error()))
	}
	return nil
}

// appText names an app for people.
func appText(a *fleet.App) string {
	text := shown(a.GUID)
	var where []string
	for _, s := range []string{a.OrgName, a.SpaceName, a.AppName} {
		if s != "" {
			where = append(where, shown(s))
		}
	}
	if len(where) > 0 {
		text += " (" + strings.Join(where, " / ") + ")"
	}
	return text
}
