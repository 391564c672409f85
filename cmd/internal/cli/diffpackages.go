package cli

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/inventory/audit"
	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/reference"
)

// packageChangeLine is a line of `rootstock diff --packages --json`.
type packageChangeLine struct {
	MessageType string `json:"message_type"`
	How         string `json:"how"` // added, removed, up, down, changed
	Ecosystem   string `json:"ecosystem"`
	Name        string `json:"name"`
	From        string `json:"from,omitempty"`
	To          string `json:"to,omitempty"`
}

// packagesLine is its last one.
type packagesLine struct {
	MessageType string `json:"message_type"`
	From        string `json:"from"`
	To          string `json:"to"`
	FromTree    string `json:"from_tree"`
	ToTree      string `json:"to_tree"`
	Added       int    `json:"added"`
	Removed     int    `json:"removed"`
	Up          int    `json:"up"`
	Down        int    `json:"down"`
	Changed     int    `json:"changed"`
}

// diffPackages compares what two trees say they consist of.
func (f *readFlags) diffPackages(cmd *cobra.Command, a, b reference.Reference, summary bool) error {
	st, err := openStore(f.store)
	if err != nil {
		return err
	}
	r, err := publisher.OpenReader(cmd.Context(), st, f.temp)
	if err != nil {
		return err
	}
	defer r.Close()
	var trees [2]audit.Tree
	var found [2]publisher.Listed
	for i, ref := range []reference.Reference{a, b} {
		t, err := r.Find(cmd.Context(), ref)
		if err != nil {
			return err
		}
		found[i] = t
		if trees[i].Inventory, err = noted(cmd.Context(), r, t.Tree); err != nil {
			return fmt.Errorf("%s: %w", t.Reference, err)
		}
		if trees[i].Inventory == nil {
			return fmt.Errorf("%s: %w; rootstock sbom %s --backfill --store %s --keys DIR makes its bill of materials",
				t.Reference, publisher.ErrNoNote, t.Reference, f.store)
		}
	}
	out := cmd.OutOrStdout()
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	count := map[audit.How]int{}
	for _, c := range audit.Diff(*trees[0].Inventory, *trees[1].Inventory) {
		count[c.How]++
		switch {
		case summary:
			continue
		case f.json:
			err = line(out, packageChangeLine{"package", string(c.How), string(c.Ecosystem), c.Name, c.From, c.To})
		default:
			_, err = fmt.Fprintln(w, packageText(c))
		}
		if err != nil {
			return err
		}
	}
	l := packagesLine{
		"summary", found[0].Reference.String(), found[1].Reference.String(), found[0].Tree, found[1].Tree,
		count[audit.Added], count[audit.Removed], count[audit.Up], count[audit.Down], count[audit.Changed],
	}
	if f.json {
		return line(out, l)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("diff: %w", err)
	}
	fmt.Fprintf(out, "%s → %s: %d packages added, %d removed, %d up, %d down, %d changed\n", l.From, l.To, l.Added, l.Removed, l.Up, l.Down, l.Changed)
	return nil
}

func packageText(c audit.Change) string {
	name := string(c.Ecosystem) + "\t" + shown(c.Name)
	switch c.How {
	case audit.Added:
		return fmt.Sprintf("+ %s\t%s", name, shown(c.To))
	case audit.Removed:
		return fmt.Sprintf("- %s\t%s", name, shown(c.From))
	}
	return fmt.Sprintf("~ %s\t%s → %s\t(%s)", name, shown(c.From), shown(c.To), c.How)
}
