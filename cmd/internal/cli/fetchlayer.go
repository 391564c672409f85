package cli

import (
	"bufio"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell/droplet"
)

// maxURLs bounds what is read of standard input, in bytes.
const maxURLs = 64 << 10

func newFetchLayer() *cobra.Command {
	var o droplet.Options
	cmd := &cobra.Command{
		Use:    "fetch-layer",
		Short:  "Fetch a layer from the first of the URLs on standard input that has it, for the plugin",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var urls []string
			lines := bufio.NewScanner(io.LimitReader(cmd.InOrStdin(), maxURLs))
			for lines.Scan() {
				if lines.Text() != "" {
					urls = append(urls, lines.Text())
				}
			}
			if err := lines.Err(); err != nil {
				return err
			}
			if len(urls) == 0 {
				return errors.New("fetch-layer: no URL on standard input")
			}
			return droplet.Fetch(cmd.Context(), urls, o, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&o.Certificate, "cert", "", "PEM file of the certificate to show")
	cmd.Flags().StringVar(&o.Key, "cert-key", "", "PEM file of its key")
	cmd.Flags().StringVar(&o.CA, "ca", "", "PEM file of certificates to trust instead of the system's")
	cmd.Flags().Int64Var(&o.Size, "size", 0, "bytes that must come, if known")
	return cmd
}
