package cli

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/rootfsprovider"
)

func newCellList() *cobra.Command {
	var a asking
	var store string
	cmd := &cobra.Command{
		Use:   "ls [containers|repositories|pins]",
		Short: "List the containers that stand on trees, the repositories, or what is pinned",
		RunE: func(cmd *cobra.Command, args []string) error {
			what := "containers"
			if len(args) > 0 {
				what = args[0]
			}
			switch {
			case len(args) > 1:
			case what == "containers":
				return listContainers(cmd, &a, store)
			case what == "repositories":
				return listRepositories(cmd, &a)
			case what == "pins":
				return listPins(cmd, &a)
			}
			return misuse(cmd, "%s lists containers, repositories or pins, not %q", cmd.CommandPath(), args)
		},
	}
	a.flags(cmd)
	cmd.Flags().StringVar(&store, "containers", rootfsprovider.DefaultStore, "the plugin's store, for what containers have written; \"\" leaves that out")
	return cmd
}

// written is a container with what it has written, in bytes; nil where that
// cannot be seen: it is another plugin's, of a store elsewhere, or its write
// layer is a file system mounted in Garden's mount namespace only.
type written struct {
	control.Container
	Bytes *int64 `json:"write_bytes,omitempty"`
}

func listContainers(cmd *cobra.Command, a *asking, store string) error {
	containers, err := a.client(false).Containers(cmd.Context())
	if err != nil {
		return err
	}
	layers := rootfsprovider.New(rootfsprovider.Config{Store: store}, nil, slog.New(slog.DiscardHandler))
	list := make([]written, len(containers))
	for i, c := range containers {
		list[i].Container = c
		if store == "" {
			continue
		}
		if s, err := layers.Stats(cmd.Context(), c.Handle); err == nil {
			list[i].Bytes = &s.DiskUsage.Exclusive
		}
	}
	return table(cmd, a.json, "container", "HANDLE\tREFERENCE\tVERSION\tTREE\tSINCE\tWRITTEN", list, func(w io.Writer, c written) {
		text := "-"
		if c.Bytes != nil {
			text = size(*c.Bytes)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.12s\t%s\t%s\n", c.Handle, c.Ref, c.Version, c.Tree, c.Since.Format(time.RFC3339), text)
	})
}

func listRepositories(cmd *cobra.Command, a *asking) error {
	s, err := a.status(cmd.Context())
	if err != nil {
		return err
	}
	return table(cmd, a.json, "repository", "NAME\tREVISION\tMOUNTPOINT\tCONTAINERS", s.Repositories, func(w io.Writer, r cell.RepositoryStatus) {
		fmt.Fprintf(w, "%s\t%d\t%s\t%d%s\n", r.Name, r.Revision, r.Mountpoint, r.Containers, standing(r))
	})
}

func listPins(cmd *cobra.Command, a *asking) error {
	var list []cell.FixedPin
	if err := a.do(cmd.Context(), cell.CallPins, nil, &list); err != nil {
		return err
	}
	return printPins(cmd, a, list)
}

func printPins(cmd *cobra.Command, a *asking, list []cell.FixedPin) error {
	return table(cmd, a.json, "pin", "REPOSITORY\tPATH\tCONTENTS\tSINCE", list, func(w io.Writer, p cell.FixedPin) {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", p.Repository, p.Path, p.Contents, p.Since.Format(time.RFC3339))
	})
}
