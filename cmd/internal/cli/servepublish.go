package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/demand"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/reference"
)

// publishPath is where images are asked for.
const publishPath = "/publish"

// demandFlags make a server publish what is asked for.
type demandFlags struct {
	repository, keys, tokens, queue, index, temp string
	allowed, plainHTTP                           []string
	every                                        time.Duration
	limit                                        int
	maxBytes                                     int64
	platform                                     string
}

func (f *demandFlags) add(p *pflag.FlagSet) {
	p.StringVar(&f.repository, "publish", "", "FQRN of the repository that images are published into on demand, asked for at "+publishPath)
	p.StringVar(&f.keys, "publish-keys", "", "directory of FQRN.key and FQRN.crt")
	p.StringSliceVar(&f.allowed, "publish-allow", nil, "REGISTRY[/REPOSITORY] of images that may be asked for; may be repeated")
	p.StringVar(&f.tokens, "publish-tokens", "", "file of bearer tokens, one per line; without, a certificate of --client-ca is enough")
	p.StringVar(&f.queue, "publish-queue", "", "file that keeps what was asked for")
	p.DurationVar(&f.every, "publish-every", demand.DefaultEvery, "least time between two revisions")
	p.IntVar(&f.limit, "publish-limit", demand.DefaultLimit, "how many images may wait")
	p.Int64Var(&f.maxBytes, "publish-max-bytes", 32<<30, "uncompressed bytes of an image's layers, at most")
	p.StringVar(&f.platform, "publish-platform", "linux/amd64", "which image of a multi-platform index: OS/ARCH[/VARIANT]")
	p.StringSliceVar(&f.plainHTTP, "publish-plain-http", nil, "HOST[:PORT] of a registry that may be spoken to without TLS")
	p.StringVar(&f.index, "publish-cache", indexDir(), "directory that remembers what is stored; safe to delete; empty for none")
	p.StringVar(&f.temp, "publish-tmp", "", "directory for temporary files (default the system's)")
}

// check refuses what would let anybody in, or nobody.
func (f *demandFlags) check(cmd *cobra.Command, s *serveFlags) error {
	if f.repository == "" {
		for _, n := range []string{"publish-keys", "publish-allow", "publish-tokens", "publish-queue"} {
			if cmd.Flags().Changed(n) {
				return misuse(cmd, "--%s goes with --publish FQRN", n)
			}
		}
		return nil
	}
	switch {
	case f.keys == "" || f.queue == "" || len(f.allowed) == 0:
		return misuse(cmd, "--publish needs --publish-keys DIR, --publish-queue FILE and --publish-allow REGISTRY")
	case f.tokens == "" && s.clientCA == "":
		return misuse(cmd, "--publish needs --publish-tokens FILE or --client-ca FILE: somebody has to be told from everybody")
	case f.tokens != "" && s.cert == "" && !isLoopback(s.listen):
		return misuse(cmd, "tokens would be sent readable to %s: add --tls-cert and --tls-key, or listen at a loopback address", s.listen)
	}
	if err := demand.Allowed(f.allowed).Check(); err != nil {
		return misuse(cmd, "--publish-allow: %w", err)
	}
	if _, err := os.Stat(filepath.Dir(f.queue)); err != nil {
		return misuse(cmd, "--publish-queue: %w", err)
	}
	return nil
}

func isLoopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// start begins to publish into the repository among the stores that are served,
// and returns what answers requests. end stops that, and returns once nothing is
// under way; so does ctx, without waiting.
func (f *demandFlags) start(ctx context.Context, stores map[string]string, clientCerts bool, log *slog.Logger) (h http.Handler, end func(), err error) {
	spec, ok := stores[f.repository]
	if !ok {
		return nil, nil, fmt.Errorf("--publish %s: none of the stores holds it", f.repository)
	}
	st, err := openStore(spec)
	if err != nil {
		return nil, nil, err
	}
	g := demand.Guard{Tokens: f.tokens, Certificates: clientCerts}
	if err := g.Check(); err != nil {
		return nil, nil, err
	}
	w := writeFlags{store: spec, keys: f.keys, temp: f.temp, autoTag: true, autoTagSpan: autoTagSpan}
	p := publishFlags{writeFlags: w, index: f.index}
	if _, err := p.open(ctx); err != nil { // to know now that these keys may publish
		return nil, nil, err
	}
	q, err := demand.New(demand.Options{
		File: f.queue, Allowed: f.allowed, Every: f.every, Limit: f.limit, Log: log,
		Open: func(ctx context.Context) (demand.Applier, error) { return p.open(ctx) },
		Published: func(ctx context.Context, ref reference.Reference) (publisher.Listed, error) {
			return publisher.Find(ctx, st, f.temp, ref)
		},
		Source: source.Options{TempDir: f.temp, Seen: p.seen(), Platform: f.platform, PlainHTTP: f.plainHTTP, MaxBytes: f.maxBytes},
	})
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		q.Run(ctx)
	}()
	return q.Handler(publishPath, g), func() { cancel(); <-done }, nil
}

// before lets h answer what lies at or below publishPath, and next the rest.
func before(h, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == publishPath || strings.HasPrefix(r.URL.Path, publishPath+"/") {
			h.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}
