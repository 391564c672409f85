package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/local"
)

// NewRootstock is the operator's program.
func NewRootstock() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rootstock",
		Short: "Publish root file systems and images into a CernVM-FS repository",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(newInit(), newPublish(), newList(), newServe())
	cmd.AddCommand(newThinTar())
	return cmd
}

// openStore opens an existing repository's place.
func openStore(spec string) (store.Store, error) {
	if strings.Contains(spec, "://") {
		return nil, fmt.Errorf("store %s: only directories can be stores so far", spec)
	}
	s, err := local.Open(spec)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("store %s: no repository here; rootstock init --store %s makes one: %w", spec, spec, err)
	}
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", spec, err)
	}
	return s, nil
}
