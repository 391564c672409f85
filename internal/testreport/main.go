// Command testreport reads `go test -json` and tells a person what matters:
// a line per package, the whole output of what failed, and every skip with its
// reason, since a skip that nobody reads hides a missing part. Its last line
// counts: "N passed, N failed, N skipped". It exits with 1 if anything failed
// or nothing ran.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
)

func main() {
	out := flag.String("o", "", "write the closing lines to this file instead of standard output")
	flag.Parse()
	r := newReport(os.Stdout)
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var e event
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			fmt.Println(in.Text()) // not from go test: a compiler's word, say
			continue
		}
		r.add(e)
	}
	closing := r.closing()
	if *out == "" {
		fmt.Print(closing)
	} else if err := os.WriteFile(*out, []byte(closing), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
	if in.Err() != nil || r.failed > 0 || r.passed == 0 {
		os.Exit(1)
	}
}
