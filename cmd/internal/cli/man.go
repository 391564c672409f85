package cli

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func newMan() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIRECTORY",
		Short: "Write the manual pages of rootstock and rootstock-cell",
		Long: `Write a manual page of each command of rootstock and rootstock-cell into a
directory, which is made if it is not there: rootstock-publish-image(1) and so on.
SOURCE_DATE_EPOCH is taken for their date if it is set.`,
		Args: exactArgs("DIRECTORY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil { // #nosec G301 -- for everybody to read
				return fmt.Errorf("man: %w", err)
			}
			for _, root := range []*cobra.Command{NewRootstock(), NewCell()} {
				root.DisableAutoGenTag = true
				h := &doc.GenManHeader{Section: "1", Source: "Rootstock", Manual: "Rootstock"}
				if os.Getenv("SOURCE_DATE_EPOCH") == "" {
					now := time.Now()
					h.Date = &now
				}
				if err := doc.GenManTree(root, h, args[0]); err != nil {
					return fmt.Errorf("man: %w", err)
				}
			}
			return nil
		},
	}
}
