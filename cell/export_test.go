package cell

import (
	"context"
	"log/slog"
	"time"
)

// Interval is what is waited between two looks at a repository of these options.
func Interval(o Repository, ttl time.Duration) time.Duration { return (&mounted{o: o}).interval(ttl) }

// Hurry shortens the pauses of a cell that does not run yet.
func (c *Cell) Hurry(d time.Duration) { c.remount, c.rescrub = d, d }

// Watch remembers what was said.
type Watch struct{ w watch }

// Look returns what there is to say.
func (w *Watch) Look(trusted error, end, now time.Time) string { return w.w.look(trusted, end, now) }

// BlacklistOf reads a blacklist file each time.
var BlacklistOf = blacklistOf

// ProcessOf is the process type that a profile of a container is filed under.
func ProcessOf(ctx context.Context, p Properties, handle string) string {
	return (&apps{garden: p}).process(ctx, handle)
}

// ChooseIDMapping says who maps the ids of what is mounted at path, and why.
func ChooseIDMapping(o Options, path string) (by, why string) {
	o.Log = slog.New(slog.DiscardHandler)
	c := &Cell{o: o}
	c.chooseIDMapping(path)
	return c.ids.get()
}
