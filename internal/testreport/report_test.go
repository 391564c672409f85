package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	var out bytes.Buffer
	r := newReport(&out)
	for _, e := range []event{
		{Action: "output", Package: "p", Test: "TestA", Output: "quiet\n"},
		{Action: "pass", Package: "p", Test: "TestA"},
		{Action: "output", Package: "p", Test: "TestB", Output: "=== RUN TestB\n"},
		{Action: "output", Package: "p", Test: "TestB", Output: "    b_test.go:3: wanted 1\n"},
		{Action: "fail", Package: "p", Test: "TestB"},
		{Action: "output", Package: "p", Test: "TestC", Output: "    c_test.go:3: no kernel module\n"},
		{Action: "skip", Package: "p", Test: "TestC"},
		{Action: "fail", Package: "p"},
	} {
		r.add(e)
	}
	if strings.Contains(out.String(), "quiet") || !strings.Contains(out.String(), "wanted 1") {
		t.Errorf("printed\n%s", out.String())
	}
	want := "SKIP p TestC: c_test.go:3: no kernel module\n1 passed, 1 failed, 1 skipped\n"
	if got := r.closing(); got != want {
		t.Errorf("closing %q, want %q", got, want)
	}
}

func TestPackageThatDoesNotBuildFails(t *testing.T) {
	r := newReport(&bytes.Buffer{})
	r.add(event{Action: "fail", Package: "p", FailedBuild: "p"})
	if r.failed != 1 {
		t.Errorf("%d failed", r.failed)
	}
}
