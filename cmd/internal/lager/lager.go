// Package lager writes log lines in the form Garden reads from a plugin's
// standard error: one JSON object per line, each in one write, or Garden would
// report half a line as an error of its own.
package lager

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"time"
)

// line is what lager knows. Older readers take the level as a number, newer
// ones as a word.
type line struct {
	Timestamp string         `json:"timestamp"`
	Level     string         `json:"level"`
	LogLevel  int            `json:"log_level"`
	Source    string         `json:"source"`
	Message   string         `json:"message"`
	Data      map[string]any `json:"data"`
}

// Handler is a slog.Handler that writes to one writer.
type Handler struct {
	w      io.Writer
	level  slog.Level
	source string
	prefix string // open groups, each with a dot behind it
	data   map[string]any
}

var _ slog.Handler = (*Handler)(nil)

// New returns a handler for messages of a source from level on.
func New(w io.Writer, source string, level slog.Level) *Handler {
	return &Handler{w: w, source: source, level: level}
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

// Handle implements slog.Handler.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	l := line{
		Timestamp: r.Time.UTC().Format(time.RFC3339Nano),
		Source:    h.source,
		Message:   h.source + "." + r.Message,
		Data:      make(map[string]any, len(h.data)+r.NumAttrs()),
	}
	switch {
	case r.Level < slog.LevelInfo:
		l.Level, l.LogLevel = "debug", 0
	case r.Level < slog.LevelError:
		l.Level, l.LogLevel = "info", 1
	default:
		l.Level, l.LogLevel = "error", 2
	}
	for k, v := range h.data {
		l.Data[k] = v
	}
	r.Attrs(func(a slog.Attr) bool {
		add(l.Data, h.prefix, a)
		return true
	})
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	_, err = h.w.Write(append(text, '\n'))
	return err
}

func add(data map[string]any, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindGroup:
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, sub := range v.Group() {
			add(data, prefix, sub)
		}
	case slog.KindDuration:
		data[prefix+a.Key] = v.Duration().Seconds()
	default:
		if err, ok := v.Any().(error); ok {
			data[prefix+a.Key] = err.Error()
			return
		}
		data[prefix+a.Key] = v.Any()
	}
}

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.data = make(map[string]any, len(h.data)+len(attrs))
	for k, v := range h.data {
		c.data[k] = v
	}
	for _, a := range attrs {
		add(c.data, h.prefix, a)
	}
	return &c
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.prefix += name + "."
	return &c
}
