package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/cmd/internal/progress"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/replica"
	"github.com/rootstock-cf/rootstock/store"
)

type replicateFlags struct {
	name, proxy, temp    string
	keys, only, fallback []string
	workers              int
	watch                bool
	interval             time.Duration
	asJSON, quiet, noisy bool
}

func newReplicate() *cobra.Command {
	var f replicateFlags
	cmd := &cobra.Command{
		Use:   "replicate URL STORE --key FILE.pub",
		Short: "Copy a repository from a server into a store, and keep the copy current",
		Long: `Copy a repository verbatim from a server into a store, a directory or s3://,
which is made if it is not there: what CernVM-FS calls a stratum 1. Every object
is verified on the way. A run that was interrupted goes on where it was. The copy
shows the new revision once all of it is there.`,
		Args: exactArgs("URL", "STORE"),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0], args[1]) },
	}
	cmd.Flags().StringSliceVar(&f.keys, "key", nil, "the repository's public master key, FQRN.pub; several while keys roll over")
	cmd.Flags().StringArrayVar(&f.fallback, "fallback", nil, "URL of another server of the repository, asked when those before fail; may be repeated")
	cmd.Flags().StringVar(&f.name, "name", "", "fully qualified repository name (default what the server says)")
	cmd.Flags().StringArrayVar(&f.only, "only", nil, "copy only this tree, KIND/NAME or KIND/NAME@VERSION; repeat for several")
	cmd.Flags().BoolVar(&f.watch, "watch", false, "go on, and copy each new revision within seconds")
	cmd.Flags().DurationVar(&f.interval, "interval", 2*time.Second, "with --watch, time between two looks for a new revision")
	cmd.Flags().IntVar(&f.workers, "workers", 16, "objects copied at a time")
	cmd.Flags().StringVar(&f.proxy, "proxy", "DIRECT", `proxies as CernVM-FS writes them: "http://a:3128|http://b:3128;DIRECT"`)
	cmd.Flags().StringVar(&f.temp, "tmp", "", "directory for catalogs under work (default the system's)")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "one JSON object per run that copied something")
	cmd.Flags().BoolVar(&f.quiet, "quiet", false, "print errors only")
	cmd.Flags().BoolVar(&f.noisy, "verbose", false, "log each stage")
	return cmd
}

func (f *replicateFlags) run(cmd *cobra.Command, url, spec string) error {
	ctx := cmd.Context()
	o := replica.Options{Name: f.name, Workers: f.workers, TempDir: f.temp, Log: logger(os.Stderr, f.noisy), Progress: &replica.Progress{}}
	for _, text := range f.only {
		ref, err := reference.Parse(text)
		if err != nil {
			return misuse(cmd, "--only: %w", err)
		}
		o.Only = append(o.Only, ref)
	}
	var err error
	if o.Trust.Keys, err = manifest.LoadPublicKeys(f.keys...); err != nil {
		return err
	}
	if len(f.keys) == 0 {
		o.Log.Warn("without --key FQRN.pub nothing proves whose repository this is; objects and signatures are checked against what the server says")
	}
	from, err := fetch.New(fetch.Config{Servers: append([]string{url}, f.fallback...), Proxies: f.proxy, Concurrency: f.workers + 2, Retries: 3})
	if err != nil {
		return misuse(cmd, "%w", err)
	}
	defer from.Close()
	o.From = from
	if o.To, err = openOrCreate(ctx, spec); err != nil {
		return err
	}
	r, err := replica.New(o)
	if err != nil {
		return misuse(cmd, "--only: %w", err)
	}
	if f.watch {
		return r.Watch(ctx, f.interval, func(res *replica.Result, err error) {
			if err != nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s: %v; trying again\n", cmd.CommandPath(), err)
				return
			}
			f.print(cmd, spec, res)
		})
	}
	line := tell(cmd, f.quiet, f.asJSON, func() progress.State {
		p := o.Progress
		return progress.State{Doing: "replicating", What: counted(p.Objects.Load(), "objects"), Bytes: p.Bytes.Load()}
	})
	res, err := r.Snapshot(ctx)
	line.End()
	if err != nil {
		return err
	}
	f.print(cmd, spec, res)
	return nil
}

// openOrCreate opens a store that may hold nothing yet.
func openOrCreate(ctx context.Context, spec string) (store.Store, error) {
	s, err := openStore(spec)
	if errors.Is(err, fs.ErrNotExist) {
		return createStore(ctx, spec)
	}
	return s, err
}

func (f *replicateFlags) print(cmd *cobra.Command, spec string, r *replica.Result) {
	out := cmd.OutOrStdout()
	switch {
	case f.quiet:
	case f.asJSON:
		_ = typed(out, "replicated", struct { //nolint:errcheck // as for all else that is printed
			Repository string   `json:"repository"`
			Revision   uint64   `json:"revision"`
			Unchanged  bool     `json:"unchanged"`
			Objects    int64    `json:"objects"`
			Catalogs   int64    `json:"catalogs"`
			Bytes      int64    `json:"bytes"`
			Skipped    []string `json:"skipped"`
		}{r.Name, r.Revision, r.Unchanged, r.Objects, r.Catalogs, r.Bytes, append([]string{}, r.Skipped...)})
	case r.Unchanged:
		fmt.Fprintf(out, "%s is current at revision %d in %s\n", r.Name, r.Revision, spec)
	default:
		fmt.Fprintf(out, "replicated %s revision %d to %s: %d objects, %s\n", r.Name, r.Revision, spec, r.Objects, size(r.Bytes))
		for _, s := range r.Skipped {
			fmt.Fprintf(out, "left out, the source has it no more: %s\n", s)
		}
	}
}
