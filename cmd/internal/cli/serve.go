package cli

import (
	"fmt"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/serve"
)

func newServe() *cobra.Command {
	var st, listen string
	var grace time.Duration
	cmd := &cobra.Command{
		Use:   "serve --store STORE --listen ADDR",
		Short: "Serve a repository over HTTP, at / and at /cvmfs/FQRN/",
		Long: `Serve a repository over HTTP, at / and at /cvmfs/FQRN/. Objects are served as
immutable, root files for 61 seconds. SIGTERM ends it once responses under way
have ended.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := openStore(st)
			if err != nil {
				return err
			}
			name, err := publisher.RepositoryName(cmd.Context(), s)
			if err != nil {
				return fmt.Errorf("store %s: %w", st, err)
			}
			var lc net.ListenConfig
			l, err := lc.Listen(cmd.Context(), "tcp", listen)
			if err != nil {
				return fmt.Errorf("serve %s: %w", name, err)
			}
			log := logger(os.Stderr, false)
			fmt.Fprintf(cmd.OutOrStdout(), "serving %s at http://%s/cvmfs/%s\n", name, l.Addr(), name)
			server := &serve.Server{Handler: serve.Handler(map[string]store.Getter{name: s}, log), Log: log, Grace: grace}
			return server.Serve(cmd.Context(), l)
		},
	}
	cmd.Flags().StringVar(&st, "store", "", "directory of the repository")
	cmd.Flags().StringVar(&listen, "listen", "", "address to listen at, HOST:PORT; port 0 takes a free one")
	cmd.Flags().DurationVar(&grace, "grace", 10*time.Second, "how long responses may take to end when the server is told to stop")
	required(cmd, "store", "listen")
	return cmd
}
