package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/inventory/fleet"
	"github.com/rootstock-cf/rootstock/reference"
)

// fleetFlags are those of rootstock fleet.
type fleetFlags struct {
	cellFlags
	cells      []string
	prometheus string
	behind     string
	emit       string
	wave       int
	byCell     bool
	json       bool
}

func newFleet() *cobra.Command {
	var f fleetFlags
	cmd := &cobra.Command{
		Use:   "fleet --cells FILE|URL,… | --prometheus URL [--behind KIND/NAME:CHANNEL [--emit restarts]]",
		Short: "Say which cells run what, and which containers are behind their channel",
		Long: `Say which versions containers run, on how many cells, and how many would get
another one if they were made now. --cells names cells by their URL, files of what
"rootstock-cell report" says, or files that list URLs, one a line. --prometheus
takes the counts from a Prometheus server that scrapes the cells.

--behind lists the containers of a name that do not stand on what the channel leads
to; --emit restarts prints the commands that move their apps, in waves.

Exit code: 0, or 3 if --behind found some, or 4 if it found none and not every cell
answered for everything. Without --behind, 4 says that not every cell did.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&f.cells, "cells", nil, "file or URL of cells; may be repeated")
	fl.StringVar(&f.prometheus, "prometheus", "", "base URL of a Prometheus server that scrapes the cells")
	f.add(fl, "")
	fl.StringVar(&f.behind, "behind", "", "KIND/NAME:CHANNEL whose outdated containers are listed")
	fl.StringVar(&f.emit, "emit", "", "restarts: commands that move outdated apps")
	fl.IntVar(&f.wave, "wave", 10, "apps in a wave of restarts")
	fl.BoolVar(&f.byCell, "by-cell", false, "a row for every cell, too")
	fl.BoolVar(&f.json, "json", false, "one JSON object per line")
	return cmd
}

func (f *fleetFlags) run(cmd *cobra.Command) error {
	ref, err := f.check(cmd)
	if err != nil {
		return err
	}
	asker, err := f.asker()
	if err != nil {
		return err
	}
	cells := asker.Ask(cmd.Context(), f.cells)
	if f.prometheus != "" {
		known, err := asker.Prometheus(cmd.Context(), f.prometheus)
		if err != nil {
			return err
		}
		cells = append(cells, known...)
	}
	p := fleetPrinter{w: cmd.OutOrStdout(), json: f.json, each: f.byCell, cells: cells, s: fleet.Summarize(cells)}
	if f.behind == "" {
		if err := p.summary(); err != nil {
			return err
		}
		if !p.s.Complete() {
			return exitCode(exitUnsure)
		}
		return nil
	}
	outdated, leads, err := fleet.Behind(cells, ref)
	if err != nil {
		return fmt.Errorf("--behind %w; rootstock list names the channels", err)
	}
	if f.emit == "" {
		err = p.behind(ref, outdated, leads)
	} else {
		err = p.restarts(cmd.ErrOrStderr(), outdated, f.wave)
	}
	switch {
	case err != nil:
		return err
	case len(outdated) > 0:
		return exitCode(exitAffected)
	case !p.s.Complete():
		return exitCode(exitUnsure)
	}
	return nil
}

func (f *fleetFlags) check(cmd *cobra.Command) (ref reference.Reference, err error) {
	switch {
	case len(f.cells) == 0 && f.prometheus == "":
		return ref, misuse(cmd, "nobody to ask: name cells with --cells FILE|URL, or --prometheus URL")
	case f.behind == "" && f.emit != "":
		return ref, misuse(cmd, "--emit needs --behind KIND/NAME:CHANNEL")
	case f.emit != "" && f.emit != "restarts":
		return ref, misuse(cmd, "--emit takes restarts, not %q", f.emit)
	case f.behind != "" && f.prometheus != "":
		return ref, misuse(cmd, "--behind needs the cells' own answers, name them with --cells: Prometheus knows counts, not containers")
	case f.wave < 1:
		return ref, misuse(cmd, "--wave %d: at least one app makes a wave", f.wave)
	case f.behind == "":
		return ref, nil
	}
	if ref, err = reference.Parse(f.behind); err != nil {
		return ref, misuse(cmd, "--behind: %w", err)
	}
	if ref.Channel == "" {
		return ref, misuse(cmd, "--behind %s: name a channel, KIND/NAME:CHANNEL", f.behind)
	}
	return ref, nil
}
