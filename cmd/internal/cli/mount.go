package cli

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/config"
	"github.com/rootstock-cf/rootstock/cell/image"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
)

type mountFlags struct {
	cell.Options
	cell.Repository
	urls, keys []string
	root, date string
	quotaMB    int64
	ca         string
	cert, priv string
	bandwidth  string
	fill       string
	hedge      bool
	requests   int
	log        string
	background bool
	ready      int // descriptor that is told when it is mounted
	verbose    bool
}

func newMount() *cobra.Command {
	var f mountFlags
	cmd := &cobra.Command{
		Use:   "mount {--url URL --name FQRN --key FILE.pub --cache DIR | --cvmfs-config DIR FQRN} MOUNTPOINT",
		Short: "Mount a repository and serve it until it is unmounted or told to stop",
		Long: `Mount a repository, in the foreground. One line is printed when it is ready:
"mounted FQRN revision N at MOUNTPOINT". SIGTERM and SIGINT unmount it, SIGHUP looks
for a new revision at once. For several repositories see rootstock-cell run.

With --cvmfs-config, servers, proxies, keys and cache are read from the files of
a stock CernVM-FS client, in the stock order; flags go before what they say.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 || len(args) == 2 && f.Name == "" {
				return nil
			}
			return misuse(cmd, "%s takes MOUNTPOINT, or FQRN MOUNTPOINT, not %d arguments", cmd.CommandPath(), len(args))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			f.Mountpoint = args[len(args)-1]
			if len(args) == 2 {
				f.Name = args[0]
			}
			if f.background {
				return mountInBackground(cmd, os.Args[1:])
			}
			return runMount(cmd, &f)
		},
	}
	cmd.Flags().StringSliceVar(&f.urls, "url", nil, "base URL of the repository; several in order of preference")
	cmd.Flags().StringVar(&f.Name, "name", "", "fully qualified repository name")
	cmd.Flags().StringSliceVar(&f.keys, "key", nil, "the repository's public master key, FQRN.pub; several while keys roll over")
	cmd.Flags().StringVar(&f.CacheDir, "cache", "", "directory of the cache; made if it is not there")
	cmd.Flags().Int64Var(&f.quotaMB, "quota", 0, "megabytes the cache may take (default no bound but the disk)")
	cmd.Flags().StringVar(&f.Proxies, "proxy", "DIRECT", `proxies as CernVM-FS writes them: "http://a:3128|http://b:3128;DIRECT"`)
	cmd.Flags().BoolVar(&f.hedge, "hedge", false, "ask the next server, too, when the first is slower than it usually is")
	cmd.Flags().IntVar(&f.requests, "requests", 0, "requests at a time (default 32)")
	cmd.Flags().StringVar(&f.bandwidth, "bandwidth", "", "bytes per second that may be received, such as 50MB (default no limit)")
	cmd.Flags().StringVar(&f.ca, "ca", "", "PEM file of the CAs that https servers are checked against, instead of the system's")
	cmd.Flags().StringVar(&f.cert, "client-certificate", "", "PEM file of the certificate shown to https servers that ask for one")
	cmd.Flags().StringVar(&f.priv, "client-key", "", "PEM file of its key")
	cmd.Flags().StringSliceVar(&f.External, "external-url", nil, "base URL of files that lie outside the repository; without one, reading such a file is an error")
	cmd.Flags().StringVar(&f.Socket, "socket", "", "unix socket for the plugin and for status")
	cmd.Flags().StringVar(&f.Metrics, "metrics", "", "loopback HOST:PORT for /metrics, /healthz and /readyz (default none)")
	cmd.Flags().StringVar(&f.Tag, "tag", "", "show this tag and never another revision")
	cmd.Flags().StringVar(&f.date, "date", "", "show the newest tagged revision of this time, YYYY-MM-DDThh:mm:ssZ, and never another")
	cmd.Flags().StringVar(&f.root, "root-hash", "", "show this root catalog and never another; no signature is asked for")
	cmd.Flags().StringVar(&f.Blacklist, "blacklist", "", "file of certificates and revisions that are withdrawn, as CernVM-FS writes it; read again at each look")
	cmd.Flags().DurationVar(&f.Refresh, "refresh", 0, fmt.Sprintf("time between two looks for a new revision (default %v; with --cvmfs-config the repository's TTL)", cell.DefaultRefresh))
	cmd.Flags().BoolVar(&f.background, "background", false, "return once it is mounted and serve on in the background; logs go to the system's log unless --log")
	cmd.Flags().StringVar(&f.log, "log", "", "write the log to this file, or to the system's log: syslog (default standard error)")
	cmd.Flags().StringVar(&f.Tier, "tier", cell.TierAuto, "how containers are shown trees: auto, image (Linux 6.5) or tree")
	cmd.Flags().StringVar(&f.IDMapping, "id-mapping", cell.IDsAuto, "who maps ids of the tree tier for unprivileged containers: auto, kernel (Linux 6.12) or daemon")
	cmd.Flags().StringVar(&f.RunDir, "run", "", "directory for mounts that containers stand on (default mnt in the cache)")
	cmd.Flags().StringVar(&f.fill, "fill", "", "bytes per second of what containers' trees lack that are fetched before anybody asks, such as 8MiB (default none)")
	cmd.Flags().DurationVar(&f.FillDelay, "fill-delay", image.DefaultFillDelay, "how long after a tree came into use that begins")
	cmd.Flags().StringVar(&f.Holder, "holder", "", "unix socket of rootstock-cell hold, which keeps the mounts when this process ends")
	cmd.Flags().BoolVar(&f.NoResend, "no-resend", false, "answer what a dead predecessor had read from memory, as kernels before 6.9 need it")
	cmd.Flags().BoolVar(&f.verbose, "verbose", false, "log each request")
	cmd.Flags().IntVar(&f.ready, readyFlag, 0, "")
	_ = cmd.Flags().MarkHidden(readyFlag) // it exists
	cmd.MarkFlagsMutuallyExclusive("tag", "date", "root-hash")
	return cmd
}

func runMount(cmd *cobra.Command, f *mountFlags) error {
	if f.fill != "" {
		var err error
		if f.FillRate, err = config.ParseSize(f.fill); err != nil {
			return misuse(cmd, "--fill: %w", err)
		}
	}
	if f.Tier != cell.TierAuto && f.Tier != cell.TierImage && f.Tier != cell.TierTree {
		return misuse(cmd, "--tier %s: it is auto, image or tree", f.Tier)
	}
	if cell.CheckIDMapping(f.IDMapping) != nil {
		return misuse(cmd, "--id-mapping %s: it is auto, kernel or daemon", f.IDMapping)
	}
	out, err := logTarget(f.log)
	if err != nil {
		return err
	}
	f.Log = logger(out, f.verbose)
	if err := f.configure(cmd); err != nil {
		return err
	}
	f.Repositories = []cell.Repository{f.Repository}
	return runCell(cmd, f.Options, func(lines string) {
		if f.ready > 0 {
			detach(f.ready, lines, f.Log)
			return
		}
		fmt.Fprint(cmd.OutOrStdout(), lines)
	})
}

// configure completes the options from flags and, before that, from the files
// that --cvmfs-config names.
func (f *mountFlags) configure(cmd *cobra.Command) error {
	if f.root != "" {
		var err error
		if f.RootHash, err = object.ParseHash(f.root); err != nil {
			return misuse(cmd, "--root-hash: %w", err)
		}
	}
	if f.date != "" {
		var err error
		if f.Date, err = time.Parse(time.RFC3339, f.date); err != nil {
			return misuse(cmd, "--date %s: want YYYY-MM-DDThh:mm:ssZ", f.date)
		}
	}
	f.Quota = f.quotaMB << 20
	dir, err := cmd.Flags().GetString(configFlag)
	if err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	if dir != "" {
		if err := f.fromConfig(cmd, dir); err != nil {
			return err
		}
	}
	if err := f.network(cmd); err != nil {
		return err
	}
	if f.Name == "" {
		return misuse(cmd, "--name is missing: which repository is to be mounted?")
	}
	if err := manifest.CheckName(f.Name); err != nil {
		return misuse(cmd, "--name: %w", err)
	}
	for _, u := range f.urls {
		f.Servers = append(f.Servers, strings.ReplaceAll(u, "@fqrn@", f.Name))
	}
	switch {
	case len(f.Servers) == 0:
		return misuse(cmd, "--url is missing: base URL of the repository; or name a configuration with --%s", configFlag)
	case f.CacheDir == "":
		return misuse(cmd, "--cache is missing: directory of the cache; or name a configuration with --%s", configFlag)
	case len(f.keys) == 0 && f.RootHash.IsZero():
		return misuse(cmd, "--key is missing: without %s.pub nothing a server says can be verified", f.Name)
	}
	// A process in the background leaves its directory.
	for _, path := range []*string{&f.Socket, &f.Blacklist} {
		if *path != "" {
			if *path, err = filepath.Abs(*path); err != nil {
				return fmt.Errorf("mount: %w", err)
			}
		}
	}
	f.Keys, err = manifest.LoadPublicKeys(f.keys...)
	return err
}

// network completes how servers are asked.
func (f *mountFlags) network(cmd *cobra.Command) error {
	if f.requests < 0 {
		return misuse(cmd, "--requests %d: how many may be under way at a time", f.requests)
	}
	f.Network.Hedge, f.Network.Concurrency = f.hedge, f.requests
	if f.bandwidth != "" {
		n, err := config.ParseSize(f.bandwidth)
		if err != nil {
			return misuse(cmd, "--bandwidth %s: write it like 500kB or 50MB", f.bandwidth)
		}
		f.Network.Bandwidth = fetch.NewBandwidth(n)
	}
	if f.ca == "" && f.cert == "" && f.priv == "" {
		return nil // or what the stock configuration says
	}
	var err error
	f.Network.TLS, err = fetch.LoadTLS(f.ca, f.cert, f.priv)
	return err
}

// logTarget opens what --log names.
func logTarget(name string) (io.Writer, error) {
	switch name {
	case "":
		return os.Stderr, nil
	case "syslog":
		return systemLog(), nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640) // #nosec G302 G304 -- the operator's file
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	return f, nil
}

// detach says over a descriptor that the mount is ready and lets go of what
// ties this process to its caller.
func detach(ready int, line string, log *slog.Logger) {
	w := os.NewFile(uintptr(ready), "ready") // #nosec G115 -- small
	if _, err := io.WriteString(w, line); err != nil {
		log.Warn("nobody waits for the mount", "error", err)
	}
	w.Close() //nolint:errcheck // said or not, it goes on
	if err := letGo(); err != nil {
		log.Warn("the process stays tied to its caller", "error", err)
	}
}
