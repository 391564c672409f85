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
	var asJSON *bool
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
				if *asJSON {
					if err := typed(cmd.OutOrStdout(), "configured", configuredLine{r.Name, r.Mountpoint, r.Servers}); err != nil {
						return fmt.Errorf("config check: %w", err)
					}
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s at %s from %v\n", r.Name, r.Mountpoint, r.Servers)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file, YAML or JSON")
	asJSON = wantsJSON(cmd)
	required(cmd, "config")
	return cmd
}

// configuredLine is a repository that a configuration names.
type configuredLine struct {
	Repository string   `json:"repository"`
	Mountpoint string   `json:"mountpoint"`
	Servers    []string `json:"servers"`
}
