package lager_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rootstock-cf/rootstock/cmd/internal/lager"
)

// writes keeps each write apart.
type writes []string

func (w *writes) Write(p []byte) (int, error) {
	*w = append(*w, string(p))
	return len(p), nil
}

func TestLines(t *testing.T) {
	var w writes
	log := slog.New(lager.New(&w, "plugin", slog.LevelInfo))
	log.Debug("not shown")
	log.Info("created", "handle", "h\n1", "took", 1500*time.Millisecond)
	log.With("a", 1).WithGroup("g").With("b", 2).Error("failed", "error", errors.New("disk full"), slog.Group("sub", "c", 3))
	log.Warn("odd")
	want := []map[string]any{
		{
			"level": "info", "log_level": 1.0, "source": "plugin", "message": "plugin.created",
			"data": map[string]any{"handle": "h\n1", "took": 1.5},
		},
		{
			"level": "error", "log_level": 2.0, "source": "plugin", "message": "plugin.failed",
			"data": map[string]any{"a": 1.0, "g.b": 2.0, "g.error": "disk full", "g.sub.c": 3.0},
		},
		{
			"level": "info", "log_level": 1.0, "source": "plugin", "message": "plugin.odd",
			"data": map[string]any{},
		},
	}
	var got []map[string]any
	for _, line := range w {
		if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") {
			t.Errorf("%q was written in one call", line)
		}
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		stamp, ok := m["timestamp"].(string)
		if _, err := time.Parse(time.RFC3339Nano, stamp); !ok || err != nil {
			t.Errorf("timestamp %v: %v", m["timestamp"], err)
		}
		delete(m, "timestamp")
		got = append(got, m)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
