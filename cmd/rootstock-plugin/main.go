// The runtime would parse the mount table, which has a line for every
// container, before main begins: part of the time that each create takes.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command rootstock-plugin is Garden's image plugin: create, delete, stats, capacity
// (docs/garden.md 1), and gc.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/rootstock-cf/rootstock/cmd/internal/plugin"
)

func main() {
	// The process ends before garbage is worth collecting; only measuring or
	// removing a large write layer comes near this.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(256 << 20)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := plugin.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
