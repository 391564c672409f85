package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/seen"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/reference"
)

// publishFlags are those that all kinds of sources share.
type publishFlags struct {
	writeFlags
	index   string
	workers int
	quiet   bool
	json    bool
	verify  bool
	attest  attestFlags
}

// source says how sources are opened.
func (f *publishFlags) source(cmd *cobra.Command, i *imageFlags) (source.Options, error) {
	o, err := i.options(cmd, f.temp)
	o.Seen = f.seen()
	return o, err
}

// seen is what earlier runs found sources to hold.
func (f *publishFlags) seen() *seen.Dir {
	if f.index == "" {
		return nil
	}
	return seen.Open(filepath.Join(f.index, ".seen"), seen.Options{Forget: f.verify})
}

func newPublish() *cobra.Command {
	var f publishFlags
	cmd := &cobra.Command{
		Use:   "publish --store STORE --keys DIR KIND …",
		Short: "Publish a root file system, an image, a buildpack or a directory",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return misuse(cmd, "say what to publish: rootfs NAME VERSION FILE, image SOURCE, buildpack NAME VERSION FILE, or dir NAME VERSION DIR")
		},
	}
	f.addPublish(cmd.PersistentFlags())
	f.attest.add(cmd.PersistentFlags())
	cmd.AddCommand(newPublishRootfs(&f), newPublishImage(&f))
	cmd.AddCommand(newPublishBuildpack(&f), newPublishDir(&f))
	return cmd
}

func (f *publishFlags) addPublish(p *pflag.FlagSet) {
	f.add(p)
	p.StringVar(&f.index, "cache", indexDir(), "directory that remembers what is stored; safe to delete; empty for none")
	p.IntVar(&f.workers, "workers", 0, "how many compress at once (default one per processor)")
	p.BoolVar(&f.verify, "verify-source", false, "read and hash the source even where it seems unchanged since it was last published")
	p.BoolVar(&f.json, "json", false, "one JSON object per line")
	p.BoolVar(&f.quiet, "quiet", false, "print errors only")
}

func newPublishImage(f *publishFlags) *cobra.Command {
	var i imageFlags
	var as string
	var all bool
	cmd := &cobra.Command{
		Use:   "image SOURCE",
		Short: "Publish an image: docker://HOST/REPO:TAG, oci:DIR:REF, oci:FILE:REF, docker-archive:FILE:REF",
		Args:  exactArgs("SOURCE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.source(cmd, &i)
			if err != nil {
				return err
			}
			if !all {
				return f.image(cmd, args[0], as, "", o)
			}
			if cmd.Flags().Changed("platform") {
				return misuse(cmd, "--platform and --all-platforms exclude each other")
			}
			platforms, err := source.Platforms(cmd.Context(), args[0], o)
			if err != nil {
				return fmt.Errorf("publish: %w", err)
			}
			for _, o.Platform = range platforms {
				if err := f.image(cmd, args[0], as, "-"+strings.ReplaceAll(o.Platform, "/", "-"), o); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&as, "as", "", "publish under this name, REGISTRY/REPOSITORY:TAG, instead of the source's own")
	cmd.Flags().BoolVar(&all, "all-platforms", false, "publish each image of an index, as TAG-OS-ARCH[-VARIANT]")
	i.add(cmd.Flags())
	required(cmd, "store", "keys")
	return cmd
}

// image publishes one image, with suffix behind its tag.
func (f *publishFlags) image(cmd *cobra.Command, spec, as, suffix string, o source.Options) error {
	src, err := source.OpenImage(cmd.Context(), spec, o)
	if err != nil {
		return fmt.Errorf("publish %s: %w", spec, err)
	}
	defer src.Close()
	ref, err := imageReference(src, as)
	if err != nil {
		return misuse(cmd, "%w", err)
	}
	if suffix != "" && !strings.Contains(ref.Version, ":") { // a digest is of one platform by itself
		ref.Version += suffix
		if err := ref.Validate(); err != nil {
			return misuse(cmd, "%w", err)
		}
	}
	return f.run(cmd, publisher.Job{Reference: ref, Source: src})
}

// imageReference is the name an image gets: its own, or the one asked for.
func imageReference(src *source.Source, as string) (reference.Reference, error) {
	ref, err := publisher.ImageReference(src, as)
	if err != nil && as != "" {
		return ref, fmt.Errorf("--as: %w", err)
	}
	if errors.Is(err, publisher.ErrNameless) {
		return ref, fmt.Errorf("%w with --as", err)
	}
	return ref, err
}

// softLimit is where the garbage collector begins to work harder, in bytes. What
// a publish holds is bounded by its workers' buffers; this keeps what it has
// finished with from doubling that.
const softLimit = 192 << 20

func (f *publishFlags) run(cmd *cobra.Command, j publisher.Job) error {
	ctx := cmd.Context()
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(softLimit)
	}
	var read source.Progress
	line := tell(cmd, f.quiet, f.json, reading("publishing", &read))
	defer line.End()
	o, err := f.options(ctx, line)
	if err != nil {
		return err
	}
	o.Progress = &read
	p, err := publisher.Open(ctx, o)
	if err != nil {
		return err
	}
	r, err := p.Publish(ctx, j)
	line.End()
	if err != nil {
		return err
	}
	return f.print(cmd, r)
}

func (f *publishFlags) print(cmd *cobra.Command, r *publisher.Result) error {
	switch {
	case f.json:
		return typed(cmd.OutOrStdout(), "published", publishedOf(r))
	case !f.quiet:
		printPublished(cmd.OutOrStdout(), r)
	}
	return nil
}

// options are those of the publisher, which logs to log.
func (f *publishFlags) options(ctx context.Context, log io.Writer) (publisher.Options, error) {
	o, err := f.writeFlags.options(ctx)
	if err != nil {
		return o, err
	}
	o.Log = stages(log, f.verbose)
	o.IndexDir, o.Workers, o.Seen, o.VerifySource = f.index, f.workers, f.seen(), f.verify
	o.Attest, err = f.attest.signer(o.Keys)
	return o, err
}

// stages logs what a publish does if asked to, and otherwise only what a person
// has to know.
func stages(w io.Writer, verbose bool) *slog.Logger {
	if verbose {
		return logger(w, true)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
