package cli

import (
	"bufio"
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/blobstore"
	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/cell/droplets"
)

// maxURLs bounds what is read of standard input, in bytes.
const maxURLs = 64 << 10

func newFetchLayer() *cobra.Command {
	var o blobstore.Options
	var digest, socket string
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
			return fetchLayer(cmd.Context(), urls, o, cmd.OutOrStdout(), digest, socket)
		},
	}
	cmd.Flags().StringVar(&o.Certificate, "cert", "", "PEM file of the certificate to show")
	cmd.Flags().StringVar(&o.Key, "cert-key", "", "PEM file of its key")
	cmd.Flags().StringVar(&o.CA, "ca", "", "PEM file of certificates to trust instead of the system's")
	cmd.Flags().Int64Var(&o.Size, "size", 0, "bytes that must come, if known")
	cmd.Flags().StringVar(&digest, "digest", "", "what the layer is to be, sha256:…; with --socket, the daemon is told what it consists of")
	cmd.Flags().StringVar(&socket, "socket", "", "where the daemon listens")
	return cmd
}

// askTime bounds what the daemon is waited for, who need not know.
const askTime = 5 * time.Second

// fetchLayer fetches a layer to w and, if the daemon does not know what it
// consists of, reads it as it passes. That can fail and change nothing.
func fetchLayer(ctx context.Context, urls []string, o blobstore.Options, w io.Writer, digest, socket string) error {
	var wanted cell.DropletFile
	if digest != "" && socket != "" {
		err := (&control.Client{Socket: socket, Timeout: askTime}).Do(ctx, cell.CallDroplet, cell.DropletFile{Digest: digest}, &wanted, nil)
		if err != nil {
			wanted.File = "" // a daemon of the release before
		}
	}
	if wanted.File == "" {
		return blobstore.Fetch(ctx, urls, o, w)
	}
	r := droplets.NewReader(ctx, digest)
	err := blobstore.Fetch(ctx, urls, o, io.MultiWriter(w, r))
	v, known := r.Close()
	if err != nil || !known {
		return err
	}
	_ = droplets.Write(wanted.File, v) // the next container's layer is read again
	return nil
}
