package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell/config"
)

func newConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Look at configuration files",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(newConfigCheck())
	return cmd
}

func newConfigCheck() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "check --config FILE",
		Short: "Say all that is wrong with a configuration file, without mounting anything",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := config.Load(file)
			if err != nil {
				return err
			}
			for _, r := range o.Repositories {
				fmt.Fprintf(cmd.OutOrStdout(), "%s at %s from %v\n", r.Name, r.Mountpoint, r.Servers)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file, YAML or JSON")
	required(cmd, "config")
	return cmd
}
