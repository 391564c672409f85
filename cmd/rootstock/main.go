// Command rootstock publishes root file systems and images into a CernVM-FS
// repository and serves it.
package main

import (
	"os"

	"github.com/rootstock-cf/rootstock/cmd/internal/cli"
)

func main() {
	os.Exit(cli.Run(cli.NewRootstock(), os.Args[1:]))
}
