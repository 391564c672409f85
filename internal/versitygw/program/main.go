// Command program prints where the S3 server that tests and benchmarks use is,
// building it if it was never built.
package main

import (
	"fmt"
	"os"

	"github.com/rootstock-cf/rootstock/internal/versitygw"
)

func main() {
	path, err := versitygw.Program()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(path)
}
