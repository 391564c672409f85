package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/serve"
)

// maxMeta bounds the file of contact information, in bytes.
const maxMeta = 64 << 10

type serveFlags struct {
	stores, geo         []string
	listen              string
	cert, key, clientCA string
	access, meta        string
	grace               time.Duration
	demand              demandFlags
	specs               map[string]string // of the stores, by repository
}

func newServe() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve --store STORE --listen ADDR",
		Short: "Serve repositories over HTTP, at /cvmfs/FQRN/",
		Long: `Serve repositories over HTTP, each at /cvmfs/FQRN/, a single one at / too.
Objects are served as immutable, root files for 61 seconds. /healthz says whether
all repositories can be read, /metrics is for Prometheus. SIGTERM ends it once
responses under way have ended.

With --publish it also publishes images that are asked for with POST /publish, by
whoever has a token or certificate, into one of the repositories; docs/sync.md
says how.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	cmd.Flags().StringArrayVar(&f.stores, "store", nil, "directory of a repository, or s3://BUCKET/PREFIX; repeat for several")
	cmd.Flags().StringVar(&f.listen, "listen", "", "address to listen at, HOST:PORT; port 0 takes a free one")
	cmd.Flags().StringVar(&f.cert, "tls-cert", "", "PEM file of the server's certificate; HTTPS is served then")
	cmd.Flags().StringVar(&f.key, "tls-key", "", "PEM file of its key")
	cmd.Flags().StringVar(&f.clientCA, "client-ca", "", "PEM file of authorities; only clients with a certificate of theirs are let in")
	cmd.Flags().StringVar(&f.access, "access-log", "", "file that gets a line per request, - for standard output")
	cmd.Flags().StringVar(&f.meta, "meta", "", "JSON file of contact information, shown as /cvmfs/info/v1/meta.json")
	cmd.Flags().StringSliceVar(&f.geo, "geo-order", nil, "host names in the order in which the Geo-API is to prefer them")
	cmd.Flags().DurationVar(&f.grace, "grace", 10*time.Second, "how long responses may take to end when the server is told to stop")
	f.demand.add(cmd.Flags())
	required(cmd, "store", "listen")
	return cmd
}

func (f *serveFlags) run(cmd *cobra.Command) error {
	ctx := cmd.Context()
	log := logger(os.Stderr, false)
	server := &serve.Server{Log: log, Grace: f.grace}
	scheme := "http"
	if (f.cert == "") != (f.key == "") {
		return misuse(cmd, "--tls-cert and --tls-key need each other")
	}
	if f.clientCA != "" && f.cert == "" {
		return misuse(cmd, "--client-ca needs --tls-cert and --tls-key: without TLS clients show no certificates")
	}
	err := f.demand.check(cmd, f)
	if err != nil {
		return err
	}
	if f.cert != "" {
		scheme = "https"
		if server.TLS, err = serve.TLS(f.cert, f.key, f.clientCA); err != nil {
			return err
		}
	}
	site := &serve.Site{Repositories: map[string]store.Getter{}, Log: log, GeoOrder: f.geo, Metrics: serve.NewMetrics()}
	names, err := f.open(ctx, site)
	if err != nil {
		return err
	}
	if f.meta != "" {
		if site.Meta, err = readMeta(f.meta); err != nil {
			return err
		}
	}
	if f.access != "" {
		file, err := f.openAccess(cmd.OutOrStdout())
		if err != nil {
			return err
		}
		defer file.Close()
		site.Access = serve.NewAccessLog(file, log)
		defer site.Access.Flush()
	}
	server.Handler, server.Quick = site.Handler(), site.Quick()
	if f.demand.repository != "" {
		h, end, err := f.demand.start(ctx, f.specs, f.clientCA != "", log)
		if err != nil {
			return err
		}
		defer end()
		server.Handler = before(h, server.Handler)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", f.listen)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	for _, name := range names {
		fmt.Fprintf(cmd.OutOrStdout(), "serving %s at %s://%s/cvmfs/%s\n", name, scheme, l.Addr(), name)
	}
	return server.Serve(ctx, l)
}

// open opens all stores and returns the repositories' names in the order given.
func (f *serveFlags) open(ctx context.Context, site *serve.Site) (names []string, err error) {
	f.specs = map[string]string{}
	for _, spec := range f.stores {
		s, err := openStore(spec)
		if err != nil {
			return nil, err
		}
		name, err := publisher.RepositoryName(ctx, s)
		if err != nil {
			return nil, fmt.Errorf("store %s: %w", spec, err)
		}
		if _, twice := site.Repositories[name]; twice {
			return nil, fmt.Errorf("store %s: %s is served from another store already; serve each repository once", spec, name)
		}
		site.Repositories[name] = s
		names = append(names, name)
		f.specs[name] = spec
		warnOfExpiry(ctx, site.Log, name, s)
	}
	return names, nil
}

func warnOfExpiry(ctx context.Context, log *slog.Logger, name string, s store.Getter) {
	const warnBefore = 10 * 24 * time.Hour
	end, err := serve.WhitelistEnd(ctx, s)
	switch left := time.Until(end); {
	case err != nil:
		log.Warn("the whitelist cannot be read: no cell will take this repository", "repository", name, "error", err)
	case left <= 0:
		log.Warn("the whitelist has expired: no cell will take new revisions until the master key has signed a new one", "repository", name, "expired", end)
	case left < warnBefore:
		log.Warn("the whitelist expires soon: let the master key sign a new one", "repository", name, "expires", end)
	}
}

func readMeta(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("--meta: %w", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxMeta))
	if err != nil {
		return nil, fmt.Errorf("--meta: %w", err)
	}
	var object map[string]any
	if err := json.Unmarshal(b, &object); err != nil {
		return nil, fmt.Errorf("--meta %s: it is no JSON object: %w", name, err)
	}
	return b, nil
}

func (f *serveFlags) openAccess(stdout io.Writer) (io.WriteCloser, error) {
	if f.access == "-" {
		return nopCloser{stdout}, nil
	}
	file, err := os.OpenFile(f.access, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, fmt.Errorf("--access-log: %w", err)
	}
	return file, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
