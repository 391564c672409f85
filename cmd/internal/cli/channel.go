package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/inventory/fleet"
	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/reference/rollout"
)

// channelLine is a line of `rootstock channel status --json`.
type channelLine struct {
	MessageType string                   `json:"message_type"`
	Kind        reference.Kind           `json:"kind"`
	Name        string                   `json:"name"`
	Channel     string                   `json:"channel"`
	Version     string                   `json:"version"`
	Tree        string                   `json:"tree"`
	Since       time.Time                `json:"since"`
	Previous    []publisher.ChannelEntry `json:"previous"`
	Rollout     *rollout.State           `json:"rollout,omitempty"`
	Progress    *fleet.Progress          `json:"progress,omitempty"` // with --cells
	Stop        string                   `json:"stop,omitempty"`     // the condition that holds
}

// moveLine is what moving a channel prints with --json.
type moveLine struct {
	Kind      reference.Kind `json:"kind"`
	Name      string         `json:"name"`
	Channel   string         `json:"channel"`
	From      string         `json:"from"`
	To        string         `json:"to"`
	Tree      string         `json:"tree"`
	Revision  uint64         `json:"revision"`
	Unchanged bool           `json:"unchanged"`
	Rollout   *rollout.State `json:"rollout,omitempty"`
	DryRun    bool           `json:"dry_run,omitempty"`
}

func newChannel() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "channel set|rollback|remove|status",
		Short: "Move channels: names such as stable that point to one version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return misuse(cmd, "say what to do: set, rollback, remove or status")
		},
	}
	cmd.AddCommand(newChannelSet(), newChannelRollback(), newChannelRemove(), newChannelStatus())
	return cmd
}

func newChannelRollback() *cobra.Command {
	return channelMover(&cobra.Command{
		Use:   "rollback KIND/NAME CHANNEL",
		Short: "Point a channel to what it pointed to before; again, to what was before that",
		Args:  exactArgs("KIND/NAME", "CHANNEL"),
	}, func(cmd *cobra.Command, p *publisher.Publisher, ref reference.Reference, _ []string) (*publisher.ChannelChange, error) {
		return p.RollbackChannel(cmd.Context(), ref)
	})
}

func newChannelRemove() *cobra.Command {
	return channelMover(&cobra.Command{
		Use:   "remove KIND/NAME CHANNEL",
		Short: "Take a channel away; the version it points to stays",
		Args:  exactArgs("KIND/NAME", "CHANNEL"),
	}, func(cmd *cobra.Command, p *publisher.Publisher, ref reference.Reference, _ []string) (*publisher.ChannelChange, error) {
		return p.RemoveChannel(cmd.Context(), ref)
	})
}

// channelMover completes a command that changes one channel.
func channelMover(cmd *cobra.Command,
	move func(cmd *cobra.Command, p *publisher.Publisher, ref reference.Reference, args []string) (*publisher.ChannelChange, error),
) *cobra.Command {
	var f writeFlags
	var asJSON bool
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ref, err := parseChannel(cmd, args[0], args[1])
		if err != nil {
			return err
		}
		p, err := f.open(cmd.Context())
		if err != nil {
			return err
		}
		c, err := move(cmd, p, ref, args)
		if err != nil {
			return err
		}
		return printMove(cmd, ref, c, asJSON)
	}
	f.add(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	required(cmd, "store", "keys")
	return cmd
}

// printMove says what became of a channel.
func printMove(cmd *cobra.Command, ref reference.Reference, c *publisher.ChannelChange, asJSON bool) error {
	out := cmd.OutOrStdout()
	if asJSON {
		return typed(out, "channel_moved", movedOf(c))
	}
	switch {
	case c.Rollout != nil:
		fmt.Fprintf(out, "%s points to %s in revision %d; %s\n", ref, c.To, c.Revision, rolloutText(c.Rollout))
	case c.Unchanged:
		fmt.Fprintf(out, "%s points to %s already: revision stays %d\n", ref, c.To, c.Revision)
	case c.To == "":
		fmt.Fprintf(out, "%s is gone in revision %d; it pointed to %s\n", ref, c.Revision, c.From)
	case c.Was != nil && c.From == c.To:
		fmt.Fprintf(out, "%s points to %s in revision %d, for all cells; the rollout of %s is over\n", ref, c.To, c.Revision, c.Was.Version)
	case c.From == "":
		fmt.Fprintf(out, "%s points to %s in revision %d\n", ref, c.To, c.Revision)
	default:
		fmt.Fprintf(out, "%s points to %s in revision %d; it pointed to %s\n", ref, c.To, c.Revision, c.From)
	}
	return nil
}

func newChannelStatus() *cobra.Command {
	var f readFlags
	var q cellQuery
	cmd := &cobra.Command{
		Use:   "status [KIND/NAME [CHANNEL]] --store STORE [--cells FILE|URL]...",
		Short: "List channels, what they point to and pointed to before, and how far rollouts are",
		Args:  cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			want := append(args, "", "")[:2]
			if len(args) > 0 {
				if _, err := parseReference(cmd, args[0]); err != nil {
					return err
				}
			}
			st, err := openStore(f.store)
			if err != nil {
				return err
			}
			all, err := publisher.Channels(cmd.Context(), st, f.temp)
			if err != nil {
				return err
			}
			all = slices.DeleteFunc(all, func(c publisher.Channel) bool {
				r := c.Reference
				return want[0] != "" && want[0] != string(r.Kind)+"/"+r.Name || want[1] != "" && want[1] != r.Channel
			})
			if len(all) == 0 && len(args) > 0 {
				return fmt.Errorf("no channel %s; rootstock channel status --store %s lists all", strings.Join(args, " "), f.store)
			}
			known, err := q.ask(cmd, st)
			if err != nil {
				return err
			}
			return printChannels(cmd, all, known, f.json)
		},
	}
	f.add(cmd.Flags())
	q.add(cmd.Flags())
	// The forms that change something take --keys; scripts may give it to all.
	cmd.Flags().String("keys", "", "not needed")
	required(cmd, "store")
	return cmd
}

func printChannels(cmd *cobra.Command, all []publisher.Channel, known *answers, asJSON bool) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
	if !asJSON {
		fmt.Fprintln(w, "CHANNEL\tVERSION\tTREE\tSINCE\tBEFORE")
	}
	for _, c := range all {
		r := c.Reference
		if asJSON {
			previous := append([]publisher.ChannelEntry{}, c.Previous...)
			l := channelLine{"channel", r.Kind, r.Name, r.Channel, c.Version, c.Tree, c.Since, previous, c.Rollout, nil, ""}
			if l.Progress = known.progress(&c); l.Progress != nil {
				l.Stop = l.Progress.Stop(c.Rollout)
			}
			if err := line(cmd.OutOrStdout(), l); err != nil {
				return fmt.Errorf("channel: %w", err)
			}
			continue
		}
		var before []string
		for _, e := range c.Previous[:min(len(c.Previous), 3)] {
			before = append(before, e.Version)
		}
		since := "unknown"
		if !c.Since.IsZero() {
			since = c.Since.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%.12s\t%s\t%s\n", r, printable(c.Version), c.Tree, since, cmp.Or(printable(strings.Join(before, " ")), "-"))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("channel: %w", err)
	}
	if asJSON {
		return nil
	}
	for i := range all {
		if all[i].Rollout != nil {
			printRollout(cmd.OutOrStdout(), &all[i], known.progress(&all[i]))
		}
	}
	return nil
}
