package cli

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/control"
)

func newStatus() *cobra.Command {
	var socket string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status --socket SOCKET",
		Short: "Say what a running cell shows and has cached",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			raw, err := (&control.Client{Socket: socket}).Status(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				if err := typed(cmd.OutOrStdout(), "status", raw); err != nil {
					return fmt.Errorf("status: %w", err)
				}
				return nil
			}
			return printStatus(cmd, raw)
		},
	}
	cmd.Flags().StringVar(&socket, "socket", control.DefaultSocket, "unix socket of the cell")
	cmd.Flags().BoolVar(&asJSON, "json", false, "the whole document, as JSON")
	return cmd
}

func printStatus(cmd *cobra.Command, raw []byte) error {
	var s cell.Status
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "process\t%d\n", s.WorkerPID)
	if s.HolderPID != 0 {
		fmt.Fprintf(w, "holder\t%d\n", s.HolderPID)
	}
	fmt.Fprintf(w, "tier\t%s (%s)\n", s.Tier, s.TierReason)
	fmt.Fprintf(w, "id mapping\tby the %s (%s)\n", s.IDMapping, s.MappingWhy)
	if i := s.Images; i != nil {
		fmt.Fprintf(w, "images\t%d trees, %d requests for contents that were not cached, %d failed\n", i.Trees, i.Requests, i.Failures)
	}
	if e := s.Exposure; e != nil {
		fmt.Fprintf(w, "exposure\t%s of trees in use not cached, %d contents opened through the daemon\n", size(e.Bytes), e.Bound)
	}
	if s.Draining {
		fmt.Fprintln(w, "draining\tno new containers are taken")
	}
	for name, why := range s.Failed {
		fmt.Fprintf(w, "not mounted\t%s: %s\n", name, why)
	}
	for _, r := range s.Repositories {
		fmt.Fprintf(w, "repository\t%s revision %d at %s%s\n", r.Name, r.Revision, r.Mountpoint, standing(r))
		if r.WhitelistEnd != nil {
			fmt.Fprintf(w, "whitelist\tuntil %s\n", r.WhitelistEnd.Format("2006-01-02 15:04 MST"))
		}
		fmt.Fprintf(w, "fetched\t%s in %d requests, %d failed\n", size(r.FetchedBytes), r.FetchedObjects, r.FetchFailures)
		fmt.Fprintf(w, "containers\t%d\n", r.Containers)
	}
	fmt.Fprintf(w, "cache\t%s in %d contents at %s\n", size(s.Cache.Bytes), s.Cache.Contents, s.Cache.Directory)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	return nil
}

func standing(r cell.RepositoryStatus) string {
	switch {
	case r.Offline:
		return " (offline: the servers cannot be asked)"
	case r.Fixed:
		return " (fixed)"
	}
	return ""
}
