package cli

import (
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
)

type mountFlags struct {
	cell.Options
	cell.Repository
	urls, keys []string
	root       string
	quotaMB    int64
	verbose    bool
}

func newMount() *cobra.Command {
	var f mountFlags
	cmd := &cobra.Command{
		Use:   "mount --url URL --name FQRN --key FILE.pub --cache DIR MOUNTPOINT",
		Short: "Mount a repository and serve it until it is unmounted or told to stop",
		Long: `Mount a repository, in the foreground. One line is printed when it is ready:
"mounted FQRN revision N at MOUNTPOINT". SIGTERM and SIGINT unmount it, SIGHUP looks
for a new revision at once. For several repositories see rootstock-cell run.`,
		Args: exactArgs("MOUNTPOINT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.Mountpoint = args[0]
			return runMount(cmd, &f)
		},
	}
	cmd.Flags().StringSliceVar(&f.urls, "url", nil, "base URL of the repository; several in order of preference")
	cmd.Flags().StringVar(&f.Name, "name", "", "fully qualified repository name")
	cmd.Flags().StringSliceVar(&f.keys, "key", nil, "the repository's public master key, FQRN.pub; several while keys roll over")
	cmd.Flags().StringVar(&f.CacheDir, "cache", "", "directory of the cache; made if it is not there")
	cmd.Flags().Int64Var(&f.quotaMB, "quota", 0, "megabytes the cache may take (default no bound but the disk)")
	cmd.Flags().StringVar(&f.Proxies, "proxy", "DIRECT", `proxies as CernVM-FS writes them: "http://a:3128|http://b:3128;DIRECT"`)
	cmd.Flags().StringVar(&f.Socket, "socket", "", "unix socket for the plugin and for status")
	cmd.Flags().StringVar(&f.Metrics, "metrics", "", "loopback HOST:PORT for /metrics, /healthz and /readyz (default none)")
	cmd.Flags().StringVar(&f.Tag, "tag", "", "show this tag and never another revision")
	cmd.Flags().StringVar(&f.root, "root-hash", "", "show this root catalog and never another; no signature is asked for")
	cmd.Flags().DurationVar(&f.Refresh, "refresh", cell.DefaultRefresh, "time between two looks for a new revision")
	cmd.Flags().BoolVar(&f.verbose, "verbose", false, "log each request")
	cmd.MarkFlagsMutuallyExclusive("tag", "root-hash")
	required(cmd, "url", "name", "cache")
	return cmd
}

func runMount(cmd *cobra.Command, f *mountFlags) error {
	if err := manifest.CheckName(f.Name); err != nil {
		return misuse(cmd, "--name: %w", err)
	}
	var err error
	if f.root != "" {
		if f.RootHash, err = object.ParseHash(f.root); err != nil {
			return misuse(cmd, "--root-hash: %w", err)
		}
	}
	if len(f.keys) == 0 && f.RootHash.IsZero() {
		return misuse(cmd, "--key is missing: without %s.pub nothing a server says can be verified", f.Name)
	}
	if f.Keys, err = manifest.LoadPublicKeys(f.keys...); err != nil {
		return err
	}
	for _, u := range f.urls {
		f.Servers = append(f.Servers, strings.ReplaceAll(u, "@fqrn@", f.Name))
	}
	f.Quota = f.quotaMB << 20
	f.Log = logger(os.Stderr, f.verbose)
	f.Repositories = []cell.Repository{f.Repository}
	return runCell(cmd, f.Options)
}
