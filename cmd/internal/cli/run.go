package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/config"
)

type runFlags struct {
	file, socket, metrics, holder string
	verbose, noResend             bool
}

func newRun() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run --config FILE",
		Short: "Mount all repositories of a configuration file and serve them until told to stop",
		Long: `Mount all repositories of a configuration file, in the foreground. One line per
repository is printed when all answer: "mounted FQRN revision N at MOUNTPOINT".
SIGTERM and SIGINT unmount them, SIGHUP looks for new revisions at once. Under
systemd with Type=notify, readiness, reloading and stopping are reported.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := config.Load(f.file)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("socket") {
				o.Socket = f.socket
			}
			if cmd.Flags().Changed("metrics") {
				o.Metrics = metricsAddress(f.metrics)
			}
			if cmd.Flags().Changed("holder") {
				o.Holder = f.holder
			}
			o.NoResend = f.noResend
			o.Log = logger(os.Stderr, f.verbose)
			return runCell(cmd, o, func(lines string) { fmt.Fprint(cmd.OutOrStdout(), lines) })
		},
	}
	cmd.Flags().StringVar(&f.file, "config", "", "configuration file, YAML or JSON (docs/cell.md)")
	cmd.Flags().StringVar(&f.socket, "socket", "", "unix socket, instead of the file's")
	cmd.Flags().StringVar(&f.metrics, "metrics", "", `loopback HOST:PORT for metrics, or "off", instead of the file's`)
	cmd.Flags().StringVar(&f.holder, "holder", "", "unix socket of rootstock-cell hold, instead of the file's")
	cmd.Flags().BoolVar(&f.noResend, "no-resend", false, "answer what a dead predecessor had read from memory, as kernels before 6.9 need it")
	cmd.Flags().BoolVar(&f.verbose, "verbose", false, "log each request")
	required(cmd, "config")
	return cmd
}

func metricsAddress(flag string) string {
	if flag == config.Off {
		return ""
	}
	return flag
}

// runCell mounts and serves until the command's context is done. ready is given a
// line for each repository once all answer.
func runCell(cmd *cobra.Command, o cell.Options, ready func(lines string)) error {
	frugal()
	patient(o.Log)
	exe, err := os.Executable() // what this name stood for when we were started
	if err != nil {
		return fmt.Errorf("run: %w", err)
	}
	if err = serveCell(cmd, o, ready); !errors.Is(err, cell.ErrRestart) {
		return err
	}
	o.Log.Info("executing the program again", "binary", exe)
	if err := syscall.Exec(exe, os.Args, os.Environ()); err != nil { // #nosec G204 -- ourselves
		return fmt.Errorf("execute %s: %w", exe, err)
	}
	return nil
}

func serveCell(cmd *cobra.Command, o cell.Options, ready func(lines string)) error {
	c, err := cell.Mount(cmd.Context(), o)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(cmd.Context())
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	reloaded := make(chan struct{})
	go func() {
		defer close(reloaded)
		reload(ctx, c, hup, o.Log)
	}()
	defer func() {
		stop()
		<-reloaded
	}()
	unnotify := context.AfterFunc(ctx, func() { notify(o.Log, daemon.SdNotifyStopping) })
	defer unnotify()
	return c.Run(cmd.Context(), func() {
		var lines strings.Builder
		for _, s := range c.Shown() {
			fmt.Fprintf(&lines, "mounted %s revision %d at %s\n", s.Name, s.Revision, s.Mountpoint)
		}
		ready(lines.String())
		notify(o.Log, daemon.SdNotifyReady)
	})
}

// frugal has garbage collected earlier than programs usually do, which costs
// little where most memory is buffers of contents that come and go, and leaves
// more of the cell to containers. GOGC in the environment goes before.
func frugal() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(25)
	}
}

// reload looks for new revisions at each SIGHUP.
func reload(ctx context.Context, c *cell.Cell, hup <-chan os.Signal, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		}
		notify(log, daemon.SdNotifyReloading+"\n"+daemon.SdNotifyMonotonicUsec())
		list, err := c.Refresh(ctx)
		if err != nil {
			log.Warn("refresh", "error", err)
		}
		for _, r := range list {
			log.Info("refreshed", "repository", r.Name, "revision", r.Revision, "changed", r.Changed, "error", r.Error)
		}
		notify(log, daemon.SdNotifyReady)
	}
}

// notify tells systemd, if it is what started us.
func notify(log *slog.Logger, text string) {
	if _, err := daemon.SdNotify(false, text); err != nil {
		log.Warn("systemd is not told", "state", text, "error", err)
	}
}
