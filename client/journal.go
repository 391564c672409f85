package client

import (
	"context"
	"log/slog"
	"strings"
	"sync"
)

const (
	journalLines = 32
	journalLine  = 512 // bytes of a line that are kept
)

// journal passes log records on and keeps the last ones for user.logbuffer, so
// that whoever may read a repository can see what troubles it.
type journal struct {
	slog.Handler
	*journalRing
	prefix string // attributes of With
}

type journalRing struct {
	mu    sync.Mutex
	lines [journalLines]string
	next  int
}

func newJournal(h slog.Handler) *journal { return &journal{Handler: h, journalRing: &journalRing{}} }

// Enabled says yes from Info on: the journal keeps what the log may not want.
func (j *journal) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || j.Handler.Enabled(ctx, l)
}

// Handle keeps the record and passes it on.
func (j *journal) Handle(ctx context.Context, rec slog.Record) error {
	if rec.Level >= slog.LevelInfo {
		j.keep(rec)
	}
	if !j.Handler.Enabled(ctx, rec.Level) {
		return nil
	}
	return j.Handler.Handle(ctx, rec)
}

func (j *journal) keep(rec slog.Record) {
	var b strings.Builder
	b.WriteString("[" + rec.Time.UTC().Format("2 Jan 2006 15:04:05 UTC") + "] " + rec.Message + j.prefix)
	rec.Attrs(func(a slog.Attr) bool {
		b.WriteString(" " + a.String())
		return b.Len() < journalLine
	})
	line := strings.ReplaceAll(b.String(), "\n", " ")
	if len(line) > journalLine {
		line = line[:journalLine] + " <snip>"
	}
	j.mu.Lock()
	j.lines[j.next%journalLines] = line
	j.next++
	j.mu.Unlock()
}

// WithAttrs is of slog.Handler.
func (j *journal) WithAttrs(as []slog.Attr) slog.Handler {
	c := *j
	c.Handler = j.Handler.WithAttrs(as)
	for _, a := range as {
		c.prefix += " " + a.String()
	}
	return &c
}

// WithGroup is of slog.Handler.
func (j *journal) WithGroup(name string) slog.Handler {
	c := *j
	c.Handler = j.Handler.WithGroup(name)
	return &c
}

// String returns the lines kept, the newest first.
func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var b strings.Builder
	for i := j.next - 1; i >= 0 && i > j.next-1-journalLines; i-- {
		b.WriteString(j.lines[i%journalLines] + "\n")
	}
	return b.String()
}
