package cli

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cmd/internal/progress"
	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/gc"
)

type gcFlags struct {
	store, keys, temp, log  string
	keepRevisions           int
	keepFor, grace          time.Duration
	leases, publicKeys      []string
	cells                   cellFlags
	dryRun, asJSON, verbose bool
	quiet                   bool
}

func newGC() *cobra.Command {
	var f gcFlags
	cmd := &cobra.Command{
		Use:   "gc --store STORE (--keys DIR | --key FILE.pub) --leases FILE|fleet:CELLS",
		Short: "Delete what no kept revision and no container needs",
		Long: `Delete every object that no kept revision refers to. Kept are the newest
revision, all that have a tag, those that were the newest at any time within
--keep-for or --grace, the newest --keep-revisions, and what containers run.

What containers run is read from FILE, a JSON object per line with "catalog" (a
hash) or "tree" (a tree id), or asked of cells: fleet: and what rootstock fleet
takes as --cells. Without leases, or if a cell does not answer, gc refuses, unless
--grace states a time longer than any container lives.

On a replica nothing is signed, and --key, the public key, stands for --keys.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.store, "store", "", "directory of the repository, or s3://BUCKET/PREFIX")
	fl.StringVar(&f.keys, "keys", "", "directory of FQRN.key and FQRN.crt")
	fl.StringSliceVar(&f.publicKeys, "key", nil, "the repository's public master key, FQRN.pub, instead of --keys, on a replica")
	fl.IntVar(&f.keepRevisions, "keep-revisions", 1, "how many of the newest revisions stay, whatever their age")
	fl.DurationVar(&f.keepFor, "keep-for", gc.DefaultKeepFor, "for how long a revision stays after a newer one came")
	fl.DurationVar(&f.grace, "grace", gc.DefaultGrace, "for how long anything new is left alone; without --leases, longer than any container lives")
	fl.StringArrayVar(&f.leases, "leases", nil, "FILE of what containers run, or fleet:FILE|URL,… of cells to ask; may be repeated")
	f.cells.add(fl, "cells-")
	fl.BoolVar(&f.dryRun, "dry-run", false, "delete nothing, say what would be deleted")
	fl.StringVar(&f.log, "deletion-log", "", "FILE to which the name of each deleted object is appended")
	fl.StringVar(&f.temp, "tmp", "", "directory for sorted names (default the system's)")
	fl.BoolVar(&f.asJSON, "json", false, "print the outcome as JSON")
	fl.BoolVar(&f.quiet, "quiet", false, "print errors only")
	fl.BoolVar(&f.verbose, "verbose", false, "log what happens")
	required(cmd, "store")
	return cmd
}

func (f gcFlags) run(cmd *cobra.Command) (err error) {
	if (f.keys == "") == (len(f.publicKeys) == 0) {
		return misuse(cmd, "name --keys DIR where the repository is published, or --key FQRN.pub on a replica")
	}
	st, err := openStore(f.store)
	if err != nil {
		return err
	}
	name, err := publisher.RepositoryName(cmd.Context(), st)
	if err != nil {
		return fmt.Errorf("store %s: %w", f.store, err)
	}
	var keys *manifest.Keys
	var trust manifest.Trust
	if f.keys != "" {
		keys, err = manifest.ReadKeys(f.keys, name)
	} else {
		trust.Keys, err = manifest.LoadPublicKeys(f.publicKeys...)
	}
	if err != nil {
		return err
	}
	o := gc.Options{
		Store: st, Keys: keys, Trust: trust, KeepRevisions: f.keepRevisions, KeepFor: f.keepFor, Grace: f.grace,
		DryRun: f.dryRun, TempDir: f.temp,
	}
	if len(f.leases) == 0 && !cmd.Flags().Changed("grace") {
		o.Grace = 0 // a default does not know how long containers live
	}
	sources := leaseSources{
		cells: &f.cells, repository: name, warn: cmd.ErrOrStderr(),
		blind: cmd.Flags().Changed("grace") && f.grace >= gc.MinBlindGrace,
	}
	if o.Leases, err = sources.read(cmd.Context(), f.leases); err != nil {
		return err
	}
	if f.log != "" {
		log, err := os.OpenFile(f.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644) // #nosec G302,G304 -- the operator's log
		if err != nil {
			return fmt.Errorf("--deletion-log: %w", err)
		}
		defer func() { err = errors.Join(err, log.Close()) }()
		o.DeletionLog = log
	}
	o.Progress = &gc.Progress{}
	line := tell(cmd, f.quiet, f.asJSON, func() progress.State { return f.state(o.Progress) })
	defer line.End()
	if f.verbose {
		o.Log = logger(line, true)
	}
	r, err := gc.Collect(cmd.Context(), o)
	line.End()
	if errors.Is(err, gc.ErrBlind) {
		return fmt.Errorf("%w (--leases FILE, or --grace DURATION)", err)
	} else if err != nil {
		return err
	}
	return f.print(cmd, r)
}

// state is what marking, and then sweeping, has come to.
func (f gcFlags) state(p *gc.Progress) progress.State {
	s := progress.State{Doing: "marking", What: counted(p.Catalogs.Load(), "catalogs"), Bytes: p.Bytes.Load()}
	if swept := p.Swept.Load(); swept > 0 {
		s.Doing, s.What, s.Done, s.Total = "sweeping", counted(p.Deleted.Load(), "deleted"), swept, gc.Prefixes
	}
	return s
}

// collected is the line of `rootstock gc --json`.
type collected struct {
	DryRun           bool     `json:"dry_run"`
	Revisions        int      `json:"revisions"`
	RevisionsDropped int      `json:"revisions_dropped"`
	Kept             int64    `json:"kept"`
	Young            int64    `json:"young"`
	Deleted          int64    `json:"deleted"`
	Bytes            int64    `json:"bytes"`
	Notes            []string `json:"notes,omitempty"`
}

func (f gcFlags) print(cmd *cobra.Command, r *gc.Result) error {
	out := cmd.OutOrStdout()
	if f.asJSON {
		err := typed(out, "collected", collected{f.dryRun, r.Revisions, r.RevisionsDropped, r.Kept, r.Young, r.Deleted, r.Bytes, r.Notes})
		if err != nil {
			return fmt.Errorf("gc: %w", err)
		}
		return nil
	}
	if f.quiet {
		return nil
	}
	for _, n := range r.Notes {
		fmt.Fprintln(cmd.ErrOrStderr(), n)
	}
	verb := "deleted"
	if f.dryRun {
		verb = "would delete"
	}
	fmt.Fprintf(out, "%s %d objects, %s; kept %d revisions, %d objects", verb, r.Deleted, size(r.Bytes), r.Revisions, r.Kept)
	if r.Young > 0 {
		fmt.Fprintf(out, ", and %d unused ones that are younger than the grace period", r.Young)
	}
	fmt.Fprintln(out)
	return nil
}
