// Command rootstock-cell shows repositories on a cell: it mounts them, keeps the
// cache and answers on a socket.
package main

import (
	"os"

	"github.com/rootstock-cf/rootstock/cmd/internal/cli"
)

func main() {
	os.Exit(cli.Run(cli.NewCell(), os.Args[1:]))
}
