package cli

import (
	"path/filepath"

	"github.com/spf13/cobra"
)

// helperName is the name that mount(8) calls a helper of our type by.
const helperName = "mount.rootstock"

// CellOrHelper is the program that is called by a name.
func CellOrHelper(name string) *cobra.Command {
	if filepath.Base(name) == helperName {
		return newMountHelper(helperName)
	}
	return NewCell()
}

// NewCell is the cell's program.
func NewCell() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rootstock-cell",
		Short: "Show repositories on a cell",
	}
	cmd.PersistentFlags().String(configFlag, "", "directory of a stock client's configuration, such as /etc/cvmfs; what flags say goes before it")
	cmd.AddCommand(
		newMount(),
		newMountHelper("mount-helper"),
		newRun(),
		newHold(),
		newUpgrade(),
		newConfig(),
		newStatus(),
		newCellList(),
		newRevision(),
		newRefresh(),
		newEvict(),
		newPin(),
		newUnpin(),
		newWarm(),
		newScrub(),
		newServers(),
		newProxies(),
		newCellExplain(),
		newDrain(),
		newReport(),
		newDiskFree(),
		newProfiles(),
		newFetchLayer(),
	)
	return cmd
}
