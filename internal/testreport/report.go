package main

import (
	"fmt"
	"io"
	"strings"
)

// event is a line of `go test -json` (go doc test2json).
type event struct {
	Action      string
	Package     string
	Test        string
	Output      string
	Elapsed     float64 // seconds
	ImportPath  string  // of build output
	FailedBuild string
}

type report struct {
	w                       io.Writer
	output                  map[string]*strings.Builder // by package and test
	skips                   []string
	passed, failed, skipped int
}

func newReport(w io.Writer) *report {
	return &report{w: w, output: map[string]*strings.Builder{}}
}

func (r *report) add(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		b := r.output[key]
		if b == nil {
			b = &strings.Builder{}
			r.output[key] = b
		}
		b.WriteString(e.Output)
	case "build-output":
		fmt.Fprint(r.w, e.Output)
	case "pass", "fail", "skip":
		r.finish(e, key)
	}
}

func (r *report) finish(e event, key string) {
	said := ""
	if b := r.output[key]; b != nil {
		said = b.String()
		delete(r.output, key)
	}
	if e.Test == "" {
		fmt.Fprintf(r.w, "%-4s %s %.1fs\n", e.Action, e.Package, e.Elapsed)
		if e.Action == "fail" {
			fmt.Fprint(r.w, said)
			if e.FailedBuild != "" || r.failed == 0 {
				r.failed++ // a package that does not build, or dies outside a test
			}
		}
		return
	}
	switch e.Action {
	case "pass":
		r.passed++
	case "fail":
		r.failed++
		fmt.Fprintf(r.w, "FAIL %s %s\n%s", e.Package, e.Test, said)
	case "skip":
		r.skipped++
		r.skips = append(r.skips, fmt.Sprintf("SKIP %s %s: %s", e.Package, e.Test, reason(said)))
	}
}

// reason is what a test gave to Skip, without the framing lines.
func reason(said string) string {
	var keep []string
	for line := range strings.Lines(said) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			keep = append(keep, line)
		}
	}
	if len(keep) == 0 {
		return "no reason given"
	}
	return strings.Join(keep, " ")
}

func (r *report) closing() string {
	var b strings.Builder
	for _, s := range r.skips {
		b.WriteString(s + "\n")
	}
	fmt.Fprintf(&b, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	return b.String()
}
