// Command rootstock-cell shows repositories on a cell: it mounts them, keeps the
// cache and answers on a socket. Called as mount.rootstock it is the helper
// behind mount -t rootstock.
package main

import (
	"os"

	"github.com/rootstock-cf/rootstock/cmd/internal/cli"
)

func main() {
	os.Exit(cli.Run(cli.CellOrHelper(os.Args[0]), os.Args[1:]))
}
