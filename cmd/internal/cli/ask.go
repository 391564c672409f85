package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/control"
)

// asking is what the commands that ask a running cell have in common.
type asking struct {
	socket string
	json   bool
}

func (a *asking) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.socket, "socket", control.DefaultSocket, "unix socket of the cell")
	cmd.Flags().BoolVar(&a.json, "json", false, "JSON, one object per line")
}

// client talks to the cell; long is for calls that may take long.
func (a *asking) client(long bool) *control.Client {
	c := &control.Client{Socket: a.socket}
	if long {
		c.Timeout = control.LongTimeout
	}
	return c
}

// do runs one of the cell's calls.
func (a *asking) do(ctx context.Context, name string, params, result any) error {
	return a.client(false).Do(ctx, name, params, result, nil)
}

// long runs a call that reports its progress, which goes to the error output if
// somebody looks at it.
func (a *asking) long(cmd *cobra.Command, name string, params, result any, progress func(json.RawMessage) string) error {
	told, watched := false, isTerminal(cmd.ErrOrStderr())
	err := a.client(true).Do(cmd.Context(), name, params, result, func(raw json.RawMessage) {
		if text := progress(raw); text != "" && watched {
			told = true
			fmt.Fprintf(cmd.ErrOrStderr(), "\r\x1b[K%s", text)
		}
	})
	if told {
		fmt.Fprintln(cmd.ErrOrStderr())
	}
	return err
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// status decodes the cell's own document.
func (a *asking) status(ctx context.Context) (cell.Status, error) {
	var s cell.Status
	raw, err := a.client(false).Status(ctx)
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	return s, err
}

// table prints a list: as JSON objects of a type, or with a heading as columns.
func table[T any](cmd *cobra.Command, asJSON bool, messageType, heading string, list []T, row func(w io.Writer, x T)) error {
	out := cmd.OutOrStdout()
	if asJSON {
		for _, x := range list {
			if err := typed(out, messageType, x); err != nil {
				return fmt.Errorf("%s: %w", cmd.Name(), err)
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, heading)
	for _, x := range list {
		row(w, x)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("%s: %w", cmd.Name(), err)
	}
	return nil
}

// somePaths wants at least one argument.
func somePaths(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return misuse(cmd, "%s takes at least one PATH or REFERENCE", cmd.CommandPath())
	}
	return nil
}

func when(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}
