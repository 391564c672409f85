package cli

import (
	"fmt"
	"os"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell/holder"
)

func newHold() *cobra.Command {
	var socket string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "hold --socket SOCKET",
		Short: "Keep the mounts of a cell while its daemon is restarted, upgraded or dead",
		Long: `Keep the mounts of a cell, in the foreground, for the daemon that is started with
--holder SOCKET. That daemon may then be killed, restarted or upgraded: the mounts
stay, and readers wait until it is back. SIGTERM and SIGINT unmount everything, so
stop the daemon first. One line is printed when it is ready.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := logger(os.Stderr, verbose)
			l, err := holder.Listen(socket)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "holding at %s\n", socket)
			notify(log, daemon.SdNotifyReady)
			return (&holder.Server{Log: log}).Serve(cmd.Context(), l)
		},
	}
	cmd.Flags().StringVar(&socket, "socket", holder.DefaultSocket, "unix socket for the daemon")
	cmd.Flags().BoolVar(&verbose, "verbose", false, "log more")
	return cmd
}
