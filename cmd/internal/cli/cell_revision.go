package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell"
)

// shownLine is a line of `rootstock-cell revision --json`.
type shownLine struct {
	Name      string     `json:"name"`
	Revision  uint64     `json:"revision"`
	RootHash  string     `json:"root_hash"`
	Published *time.Time `json:"published,omitempty"`
	Offline   bool       `json:"offline"`
	Fixed     bool       `json:"fixed"`
}

func newRevision() *cobra.Command {
	var a asking
	cmd := &cobra.Command{
		Use:   "revision",
		Short: "Say which revision of each repository is shown",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.status(cmd.Context())
			if err != nil {
				return err
			}
			list := make([]shownLine, len(s.Repositories))
			for i, r := range s.Repositories {
				list[i] = revisionOf(r)
			}
			return table(cmd, a.json, "revision", "NAME\tREVISION\tROOT\tPUBLISHED", list, func(w io.Writer, r shownLine) {
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", r.Name, r.Revision, r.RootHash, when(r.Published))
			})
		},
	}
	a.flags(cmd)
	return cmd
}

func revisionOf(r cell.RepositoryStatus) shownLine {
	return shownLine{r.Name, r.Revision, r.RootHash, r.Published, r.Offline, r.Fixed}
}
