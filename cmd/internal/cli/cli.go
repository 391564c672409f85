// Package cli is the command lines of rootstock and rootstock-cell: one file
// and one constructor per command. It parses, wires the packages that do the
// work, and prints; it decides nothing.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes, an API for scripts (docs/cli.md).
const (
	exitOK     = 0
	exitFailed = 1 // it was tried and failed; the message says why
	exitUsage  = 2 // the command line was not understood; nothing was tried

	// Of rootstock audit, which has said all there is to say.
	exitAffected = 3
	exitUnsure   = 4 // nothing affected was found, but not all could be looked at
)

// exitCode ends a command that has done what it was asked, and whose answer is
// its exit code.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// Run executes a command line and returns the process's exit code. SIGINT and
// SIGTERM cancel the context that commands run in.
func Run(root *cobra.Command, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root.SetArgs(args)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &usageError{cmd, err} })
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var code exitCode
	if errors.As(err, &code) {
		return int(code)
	}
	fmt.Fprintf(root.ErrOrStderr(), "%s: %v\n", root.Name(), err)
	var usage *usageError
	if errors.As(err, &usage) || strings.HasPrefix(err.Error(), "unknown command") {
		fmt.Fprintf(root.ErrOrStderr(), "see %s --help\n", commandPath(root, usage))
		return exitUsage
	}
	return exitFailed
}

func commandPath(root *cobra.Command, usage *usageError) string {
	if usage == nil {
		return root.CommandPath()
	}
	return usage.cmd.CommandPath()
}

// usageError is a command line that was not understood.
type usageError struct {
	cmd *cobra.Command
	err error
}

func (u *usageError) Error() string { return u.err.Error() }
func (u *usageError) Unwrap() error { return u.err }

// misuse reports an argument that a command cannot make sense of.
func misuse(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{cmd, fmt.Errorf(format, args...)}
}

// exactArgs is cobra's, with names in the message and exit code 2.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return misuse(cmd, "%s takes %s, not %d arguments", cmd.CommandPath(), strings.Join(names, " "), len(args))
		}
		return nil
	}
}

// required marks flags that a command cannot do without.
func required(cmd *cobra.Command, names ...string) {
	old := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		for _, n := range names {
			if f := cmd.Flags().Lookup(n); f.Value.String() == "" || f.Value.String() == "[]" {
				return misuse(cmd, "--%s %s is missing: %s", n, strings.ToUpper(f.Value.Type()), f.Usage)
			}
		}
		if old != nil {
			return old(cmd, args)
		}
		return nil
	}
}

// logger writes edges (a mount, a refresh, a publish stage) to w, requests only
// with verbose.
func logger(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// shown is text of strangers as it can be shown: quoted if it holds anything
// that could disturb a terminal.
func shown(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}

// indexDir is where the publisher's memory of stored contents lives by default.
func indexDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return dir + "/rootstock"
}
