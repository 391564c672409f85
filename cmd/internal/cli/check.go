package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/cmd/internal/progress"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/publisher/check"
	"github.com/rootstock-cf/rootstock/publisher/status"
	"github.com/rootstock-cf/rootstock/store"
)

// overHTTP is how many requests a check keeps under way by default: a server
// answers each after a round trip only.
const overHTTP = 16

type checkFlags struct {
	store, temp                       string
	keys                              []string
	asJSON, noContent, tags, noStatus bool
	quiet                             bool
	workers                           int
}

func newCheck() *cobra.Command {
	var f checkFlags
	cmd := &cobra.Command{
		Use:   "check --store STORE|URL",
		Short: "Prove that a repository is whole: signatures, catalogs, objects, trees",
		Long: `Check everything that the newest revision leads to: signatures and whitelist,
every row, count and link of every catalog, that each object is there and is what
its name says, and that listing, objects table and catalog of each tree agree.
All that is wrong is listed, one finding per line; the exit code is 1 if there
is any. With a directory, the outcome is noted in .cvmfs_status.json.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	cmd.Flags().StringVar(&f.store, "store", "", "directory of the repository, s3://BUCKET/PREFIX, or http:// URL of its server")
	cmd.Flags().StringArrayVar(&f.keys, "key", nil, "FILE.pub, a master public key that must have signed the whitelist; may be repeated")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "one JSON object per line: findings, then a summary")
	cmd.Flags().BoolVar(&f.quiet, "quiet", false, "print findings and errors only")
	cmd.Flags().BoolVar(&f.noContent, "no-content", false, "only look whether objects exist")
	cmd.Flags().BoolVar(&f.tags, "tags", false, "check all revisions that have a tag, too")
	cmd.Flags().BoolVar(&f.noStatus, "no-status", false, "leave .cvmfs_status.json alone")
	cmd.Flags().IntVar(&f.workers, "workers", 0, fmt.Sprintf("how many read at once (default one per processor; %d over HTTP)", overHTTP))
	cmd.Flags().StringVar(&f.temp, "tmp", "", "directory for catalogs under check (default the system's)")
	required(cmd, "store")
	return cmd
}

func (f checkFlags) run(cmd *cobra.Command) error {
	o := check.Options{NoContent: f.noContent, Tags: f.tags, Workers: f.workers, TempDir: f.temp, Progress: &check.Progress{}}
	var err error
	if len(f.keys) > 0 {
		if o.Masters, err = manifest.LoadPublicKeys(f.keys...); err != nil {
			return misuse(cmd, "--key: %w", err)
		}
	}
	var st store.Store
	if strings.HasPrefix(f.store, "http://") || strings.HasPrefix(f.store, "https://") {
		if o.Store, err = newRemote(f.store); err != nil {
			return misuse(cmd, "--store: %w", err)
		}
		if o.Workers == 0 {
			o.Workers = overHTTP
		}
	} else {
		if st, err = openStore(f.store); err != nil {
			return err
		}
		o.Store = st
	}
	out := cmd.OutOrStdout()
	line := tell(cmd, f.quiet, f.asJSON, func() progress.State {
		p := o.Progress
		return progress.State{
			Doing: "checking", What: fmt.Sprintf("%d catalogs, %d trees, %d objects", p.Catalogs.Load(), p.Trees.Load(), p.Objects.Load()),
			Bytes: p.Bytes.Load(), Done: p.Answered.Load(), Total: p.Asked.Load(),
		}
	})
	o.Found = func(found check.Finding) {
		line.Pause(func() {
			if f.asJSON {
				typed(out, "finding", found) //nolint:errcheck // the summary's error tells
				return
			}
			fmt.Fprintln(out, found)
		})
	}
	r, err := check.Run(cmd.Context(), o)
	line.End()
	if err != nil {
		return fmt.Errorf("%s: %w", f.store, err)
	}
	if st != nil && !f.noStatus {
		if err := status.Check(cmd.Context(), st, time.Now(), r.Clean()); err != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "the outcome could not be noted: %v\n", err)
		}
	}
	return f.summary(cmd, r)
}

// summaryLine is the last line of `rootstock check --json`; those before are
// check.Findings.
type summaryLine struct {
	Repository string `json:"repository"`
	Revision   uint64 `json:"revision"`
	Catalogs   int64  `json:"catalogs"`
	Trees      int64  `json:"trees"`
	Objects    int64  `json:"objects"`
	Bytes      int64  `json:"bytes"`
	Findings   int64  `json:"findings"`
	Warnings   int64  `json:"warnings"`
}

func (f checkFlags) summary(cmd *cobra.Command, r *check.Report) error {
	if f.asJSON {
		if err := typed(cmd.OutOrStdout(), "summary", summaryLine{
			r.Name, r.Revision, r.Catalogs, r.Trees, r.Objects, r.Bytes, r.Findings, r.Warnings,
		}); err != nil {
			return fmt.Errorf("check: %w", err)
		}
	}
	what := fmt.Sprintf("%d catalogs, %d trees, %d objects", r.Catalogs, r.Trees, r.Objects)
	if !f.noContent {
		what += ", " + size(r.Bytes) + " read"
	}
	if !r.Clean() {
		return fmt.Errorf("%s: %d findings (%s)", f.store, r.Findings, what)
	}
	if !f.asJSON && !f.quiet {
		fmt.Fprintf(cmd.OutOrStdout(), "%s revision %d is whole: %s\n", r.Name, r.Revision, what)
	}
	return nil
}

// remote reads a repository from its server, as a cell does.
type remote struct{ f fetch.Fetcher }

func newRemote(url string) (store.Getter, error) {
	s, err := fetch.New(fetch.Config{Servers: []string{strings.TrimSuffix(url, "/")}, Proxies: fetch.Direct, Concurrency: 2 * overHTTP})
	if err != nil {
		return nil, err
	}
	return remote{s}, nil
}

func (r remote) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	body, err := r.f.Fetch(ctx, name, fetch.Options{})
	if errors.Is(err, fetch.ErrNotFound) {
		return nil, fmt.Errorf("fetch %s: %w: %w", name, store.ErrNotExist, err)
	}
	return body, err
}
