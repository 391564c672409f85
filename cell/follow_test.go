package cell_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/manifest"
)

func TestInterval(t *testing.T) {
	const ttl = 240 * time.Second
	for name, tc := range map[string]struct {
		o    cell.Repository
		ttl  time.Duration
		want time.Duration
	}{
		"given":              {cell.Repository{Refresh: 7 * time.Second, FollowTTL: true, MaxTTL: time.Second}, ttl, 7 * time.Second},
		"the repository's":   {cell.Repository{FollowTTL: true}, ttl, ttl},
		"limited":            {cell.Repository{FollowTTL: true, MaxTTL: time.Minute}, ttl, time.Minute},
		"limit not reached":  {cell.Repository{FollowTTL: true, MaxTTL: time.Hour}, ttl, ttl},
		"no TTL, with limit": {cell.Repository{FollowTTL: true, MaxTTL: time.Hour}, 0, time.Hour},
		"no TTL, no limit":   {cell.Repository{FollowTTL: true}, 0, cell.DefaultRefresh},
		"a TTL next to none": {cell.Repository{FollowTTL: true}, time.Nanosecond, time.Second},
	} {
		if got := cell.Interval(tc.o, tc.ttl); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// Each thing is said once, and again when it comes back.
func TestWatch(t *testing.T) {
	var w cell.Watch
	now := time.Unix(1e9, 0)
	end := now.Add(100 * time.Hour)
	for i, step := range []struct {
		trusted error
		end     time.Time
		after   time.Duration
		want    string
	}{
		{nil, end, 0, ""},
		{nil, end, 50 * time.Hour, "the whitelist ends at"},
		{nil, end, 51 * time.Hour, ""},
		{manifest.ErrExpired, end, 101 * time.Hour, "no new containers"},
		{manifest.ErrExpired, end, 102 * time.Hour, ""},
		{nil, end.Add(10 * time.Hour), 103 * time.Hour, "can be trusted again"},
		{nil, end.Add(10 * time.Hour), 103 * time.Hour, "the whitelist ends at"},
		{nil, end.Add(1000 * time.Hour), 104 * time.Hour, ""},
		{manifest.ErrBlacklisted, end.Add(1000 * time.Hour), 104 * time.Hour, "no new containers"},
		{nil, time.Time{}, 2000 * time.Hour, "can be trusted again"},
		{nil, time.Time{}, 2000 * time.Hour, ""},
	} {
		got := w.Look(step.trusted, step.end, now.Add(step.after))
		if (step.want == "") != (got == "") || !strings.Contains(got, step.want) {
			t.Errorf("step %d: %q, want %q", i, got, step.want)
		}
	}
}

func TestBlacklistFile(t *testing.T) {
	if cell.BlacklistOf("") != nil {
		t.Error("no file is a list")
	}
	file := filepath.Join(t.TempDir(), "blacklist")
	read := cell.BlacklistOf(file)
	if _, err := read(); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "empty file") {
		t.Errorf("missing: %v", err)
	}
	for text, withdrawn := range map[string]bool{"": false, "<r.example.org 7\n": true, "<r.example.org 6\n": false} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := read()
		if err != nil || b.Revision("r.example.org", 6) != withdrawn {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"rubbish\n", strings.Repeat("#", 1<<20+1)} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := read(); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}
