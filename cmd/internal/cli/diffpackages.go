package cli

import (
	"fmt"

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

// diffPackages compares what two trees say they consist of.
func (f *readFlags) diffPackages(cmd *cobra.Command, a, b reference.Reference) error {
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
	for i, ref := range []reference.Reference{a, b} {
		t, err := r.Find(cmd.Context(), ref)
		if err != nil {
			return err
		}
		if trees[i].Inventory, err = noted(cmd.Context(), r, t.Tree); err != nil {
			return fmt.Errorf("%s: %w", t.Reference, err)
		}
		if trees[i].Inventory == nil {
			return fmt.Errorf("%s: %w; rootstock sbom %s --backfill --store %s --keys DIR makes its bill of materials",
				t.Reference, publisher.ErrNoNote, t.Reference, f.store)
		}
	}
	out := cmd.OutOrStdout()
	for _, c := range audit.Diff(*trees[0].Inventory, *trees[1].Inventory) {
		if f.json {
			err = line(out, packageChangeLine{"package", string(c.How), string(c.Ecosystem), c.Name, c.From, c.To})
		} else {
			_, err = fmt.Fprintln(out, packageText(c))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func packageText(c audit.Change) string {
	name := string(c.Ecosystem) + " " + shown(c.Name)
	switch c.How {
	case audit.Added:
		return fmt.Sprintf("+ %s %s", name, shown(c.To))
	case audit.Removed:
		return fmt.Sprintf("- %s %s", name, shown(c.From))
	}
	return fmt.Sprintf("~ %s %s → %s (%s)", name, shown(c.From), shown(c.To), c.How)
}
