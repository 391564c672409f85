package fault_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
)

// fault is a line of docs/faults.md: what breaks, what comes of it, and where that
// is counted.
type fault struct {
	name    string
	outcome string
	counted string // a metric that grows
	test    func(t *testing.T, f *fixture)
}

// all is the table. Each test starts the fixture's cell itself, since some faults
// are there before.
func all() []fault {
	return slices.Concat(networkFaults(), wireFaults(), trustFaults(), machineFaults())
}

var (
	printTable = flag.Bool("table", false, "print the table of outcomes")
	resultsMu  sync.Mutex
	results    = map[string]string{}
)

func TestMain(m *testing.M) {
	if file := os.Getenv(daemonConfig); file != "" {
		os.Exit(runDaemon(file))
	}
	if config := os.Getenv(loadConfig); config != "" {
		os.Exit(runLoad(config))
	}
	code := m.Run()
	if file, err := program(); err == nil {
		os.RemoveAll(filepath.Dir(file))
	}
	if *printTable {
		w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "FAULT\tOUTCOME\tCOUNTED BY\tRESULT")
		for _, f := range all() {
			result := results[f.name]
			if result == "" {
				result = "not run"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.name, f.outcome, f.counted, result)
		}
		fmt.Fprintln(w, "\nSURVIVED\tTIMES\tOPERATIONS\tERRORS\tLONGEST\tIN")
		for _, line := range survivals {
			fmt.Fprintln(w, line)
		}
		w.Flush()
	}
	os.Exit(code)
}

func TestFaults(t *testing.T) {
	for _, x := range all() {
		t.Run(strings.ReplaceAll(x.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			t.Cleanup(func() {
				result := "ok"
				switch {
				case t.Failed():
					result = "FAILED"
				case t.Skipped():
					result = "skipped"
				}
				resultsMu.Lock()
				results[x.name] = result
				resultsMu.Unlock()
			})
			x.test(t, f)
			if got := f.metric(x.counted); got <= 0 && !t.Failed() {
				t.Errorf("%s is %v: not counted", x.counted, got)
			}
		})
	}
}

// The table in the documentation is this one.
func TestTableIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for _, f := range all() {
		fmt.Fprintf(&want, "| %s | %s | `%s` |\n", f.name, f.outcome, f.counted)
	}
	if !strings.Contains(string(text), want.String()) {
		t.Errorf("docs/faults.md does not hold this table:\n%s", want.String())
	}
}
