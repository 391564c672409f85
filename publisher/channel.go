package publisher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/publisher/revision"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/reference/rollout"
	"github.com/rootstock-cf/rootstock/store"
)

// channelsDir holds the channels: a relative link to one tree each, and beside
// it <channel>.json.
const channelsDir = "/channels"

// maxChannelHistory bounds what a channel remembers of where it pointed.
const maxChannelHistory = 50

// Channel is a channel of the newest revision.
type Channel struct {
	Reference reference.Reference // with Channel set
	Version   string
	Tree      string    // tree id, hex; empty if what it points to is no tree of ours
	Since     time.Time // when it was set; zero if its record does not say
	Previous  []ChannelEntry
	// Rollout is what moves it ring by ring to another version; nil for
	// nothing.
	Rollout *rollout.State
	at      Listed // what it points to
}

// ChannelEntry is what a channel pointed to from a moment on.
type ChannelEntry struct {
	Version string    `json:"version"`
	Tree    string    `json:"tree"`
	When    time.Time `json:"when"`
}

// channelRecord is <channel>.json. Fields that are not known here belong to
// others and are kept.
type channelRecord struct {
	history []ChannelEntry // youngest first
	rollout *rollout.State
	others  map[string]json.RawMessage
}

const recordHistory = "history"

func (r *channelRecord) UnmarshalJSON(b []byte) error {
	r.others = map[string]json.RawMessage{}
	if err := json.Unmarshal(b, &r.others); err != nil {
		return err
	}
	var err error
	if r.rollout, err = rollout.Parse(b); err != nil {
		return err
	}
	delete(r.others, rollout.Field)
	raw, ok := r.others[recordHistory]
	delete(r.others, recordHistory)
	if !ok {
		return nil
	}
	return json.Unmarshal(raw, &r.history)
}

func (r channelRecord) MarshalJSON() ([]byte, error) {
	all := map[string]any{recordHistory: r.history[:min(len(r.history), maxChannelHistory)]}
	for k, v := range r.others {
		all[k] = v
	}
	if r.rollout != nil {
		all[rollout.Field] = r.rollout
	}
	return json.Marshal(all)
}

// Channels names the channels of a repository's newest revision, by kind, name
// and channel. It believes the store, as [List] does.
func Channels(ctx context.Context, st store.Store, tempDir string) ([]Channel, error) {
	v, err := openView(ctx, st, tempDir)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	return v.channels(ctx)
}

// channels names the channels of all names.
func (v *view) channels(ctx context.Context) ([]Channel, error) {
	var all []Channel
	for _, kind := range []reference.Kind{reference.Buildpacks, reference.Dirs, reference.Images, reference.Rootfs} {
		some, err := v.channelsBelow(ctx, kind, channelsDir+"/"+string(kind), "")
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// channelsBelow names the channels in and below dir, which is that of name.
func (v *view) channelsBelow(ctx context.Context, kind reference.Kind, dir, name string) ([]Channel, error) {
	if e, ok, err := v.tx.Lookup(ctx, dir); err != nil || !ok || !e.IsDir() {
		return nil, err
	}
	rows, err := v.tx.List(ctx, dir)
	if err != nil {
		return nil, err
	}
	var all []Channel
	for i := range rows {
		e := &rows[i]
		if e.IsDir() {
			some, err := v.channelsBelow(ctx, kind, dir+"/"+e.Name, path.Join(name, e.Name))
			if err != nil {
				return nil, err
			}
			all = append(all, some...)
			continue
		}
		ref := reference.Reference{Kind: kind, Name: name, Channel: e.Name}
		if !e.IsSymlink() || ref.Validate() != nil {
			continue
		}
		c, err := v.channelAt(ctx, ref, e)
		if err != nil {
			return nil, err
		}
		all = append(all, *c)
	}
	return all, nil
}

// channel reads the channel ref names. An error wraps [ErrNotFound] if there is
// none.
func (v *view) channel(ctx context.Context, ref reference.Reference) (*Channel, error) {
	name, _ := ref.RepositoryPath()
	e, ok, err := v.tx.Lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	if !ok || !e.IsSymlink() {
		return nil, fmt.Errorf("channel %s is %w; rootstock channel set makes it", ref, ErrNotFound)
	}
	return v.channelAt(ctx, ref, &e)
}

// channelAt reads the channel whose link is e. The link decides; the record
// tells what a link cannot.
func (v *view) channelAt(ctx context.Context, ref reference.Reference, e *catalog.Entry) (*Channel, error) {
	c := &Channel{Reference: ref}
	target := path.Join(ref.ChannelsDir(), e.Symlink)
	c.Version = path.Base(target)
	record, err := v.record(ctx, ref)
	if err != nil {
		return nil, err
	}
	row, ok, err := v.tx.Lookup(ctx, target)
	if err != nil {
		return nil, err
	}
	c.at.Path, c.Rollout = target, record.rollout
	if ok {
		if t := treeOf(&row); t.tree != "" {
			c.Tree = t.tree
		}
	}
	if len(record.history) > 0 && record.history[0].Tree == c.Tree {
		c.Version, c.Since = record.history[0].Version, record.history[0].When
		c.Previous = record.history[1:]
	}
	if t, ok := listedAt(ref.WithVersion(c.Version), target, &row); ok {
		c.at = t
	}
	return c, nil
}

// record reads what a channel remembers; nothing if there is no record.
func (v *view) record(ctx context.Context, ref reference.Reference) (r channelRecord, err error) {
	name, _ := ref.RepositoryPath()
	b, err := v.file(ctx, name+".json", maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("read %s.json: %w", name, err)
	}
	return r, nil
}

// ChannelChange says what became of a channel.
type ChannelChange struct {
	Channel   reference.Reference
	From      string // the version before, empty for a new channel
	To        string // the version now, empty for a channel that was removed
	Tree      string
	Revision  uint64
	Unchanged bool // it pointed there already: no new revision
	// Rollout is what is under way now, Was what was before; nil for nothing.
	Rollout, Was *rollout.State
}

// SetChannel makes the channel ref names point to a version, in one new
// revision, for all cells: a rollout under way ends. A version that is not there
// is [ErrNotFound], with those that are.
func (p *Publisher) SetChannel(ctx context.Context, ref reference.Reference, version string) (*ChannelChange, error) {
	return p.moveChannel(ctx, fmt.Sprintf("set %s to %s", ref, version), ref, pointTo(ref.WithVersion(version)))
}

// pointTo chooses a version, or the newest, and remembers where the channel
// points now.
func pointTo(version reference.Reference) chooser {
	return func(ctx context.Context, v *view, now *Channel) (move, error) {
		t, err := v.resolve(ctx, version)
		if now == nil {
			return move{to: t}, err
		}
		return move{to: t, past: now.history()}, err
	}
}

// history is what the channel remembers when it is moved on.
func (c *Channel) history() []ChannelEntry {
	return append([]ChannelEntry{{Version: c.Version, Tree: c.Tree, When: c.Since}}, c.Previous...)
}

// RollbackChannel makes a channel point to what it pointed to before it was
// last set, and forget that it was. Repeated, it goes further back. If a rollout
// is under way, it is what is taken back.
func (p *Publisher) RollbackChannel(ctx context.Context, ref reference.Reference) (*ChannelChange, error) {
	return p.moveChannel(ctx, "roll back "+ref.String(), ref,
		func(ctx context.Context, v *view, now *Channel) (move, error) {
			if now == nil {
				return move{}, fmt.Errorf("the channel is %w; rootstock channel status shows those that are", ErrNotFound)
			}
			if now.Rollout != nil {
				return move{stay: true, what: fmt.Sprintf("roll back %s to %s", ref, now.Version)}, nil
			}
			if len(now.Previous) == 0 {
				return move{}, fmt.Errorf("it has pointed to %s only; rootstock channel set names another version", now.Version)
			}
			was := now.Previous[0]
			t, err := v.resolve(ctx, ref.WithVersion(was.Version))
			if err == nil && t.Tree != was.Tree {
				err = fmt.Errorf("%s has been published anew since: it was tree %s, now it is %s; if you want it, rootstock channel set says so",
					t.Reference, was.Tree, t.Tree)
			}
			return move{to: t, past: now.Previous[1:], what: fmt.Sprintf("roll back %s to %s", ref, was.Version)}, err
		})
}

// move says what is to become of a channel.
type move struct {
	to   Listed         // where it is to point
	past []ChannelEntry // where it pointed before
	// stay leaves where it points, and what it remembers.
	stay    bool
	nothing bool           // is to change at all
	rollout *rollout.State // to be under way
	what    string         // is done, if it says more than the caller could
}

// chooser chooses a move. Now is nil for a new channel.
type chooser func(ctx context.Context, v *view, now *Channel) (move, error)

func (p *Publisher) moveChannel(ctx context.Context, what string, ref reference.Reference, choose chooser) (*ChannelChange, error) {
	r := &ChannelChange{Channel: ref}
	rev, err := p.edit(ctx, what, func(ctx context.Context, h *head, tx *revision.Tx) (bool, error) {
		return p.point(ctx, h, &view{st: p.o.Store, tx: tx}, ref, choose, r, false)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	r.Revision = rev
	return r, nil
}

// now is a time as records have it: of whole seconds.
func (p *Publisher) now() time.Time { return p.o.Now().UTC().Truncate(time.Second) }

// point moves a channel in the view's transaction, unless it is only to say in r
// what would become of it.
func (p *Publisher) point(
	ctx context.Context, h *head, v *view, ref reference.Reference, choose chooser, r *ChannelChange, dry bool,
) (changed bool, err error) {
	now, err := v.channel(ctx, ref)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return false, err
	}
	m, err := choose(ctx, v, now)
	if err != nil {
		return false, err
	}
	h.what = m.what
	r.To, r.Tree, r.Rollout = m.to.Reference.Version, m.to.Tree, m.rollout
	there := false
	if now != nil {
		r.From, r.Was = now.Version, now.Rollout
		there = now.Version == r.To && now.at.Path == m.to.Path
		if m.stay || m.nothing {
			r.To, r.Tree = now.Version, now.Tree
		}
		if m.nothing || there && !m.stay && now.Rollout == nil && m.rollout == nil {
			r.Unchanged = true
			return false, nil
		}
	}
	switch {
	case dry:
		return true, nil
	case m.stay || there:
		return true, halfDone(p.recordChannel(ctx, h, v, ref, func(c *channelRecord) { c.rollout = m.rollout }))
	}
	entry := ChannelEntry{Version: r.To, Tree: m.to.Tree, When: p.now()}
	return true, halfDone(p.placeChannel(ctx, h, v, ref, m.to.Path, append([]ChannelEntry{entry}, m.past...)))
}

// placeChannel writes a channel's link and record. No rollout is under way then.
func (p *Publisher) placeChannel(ctx context.Context, h *head, v *view, ref reference.Reference, tree string, history []ChannelEntry) error {
	name, _ := ref.RepositoryPath()
	if e, ok, err := v.tx.Lookup(ctx, name); err != nil {
		return err
	} else if ok && !e.IsSymlink() {
		return fmt.Errorf("%s: %w: it is no channel's link", name, ErrExists)
	}
	if err := v.tx.Remove(ctx, name); err != nil {
		return err
	}
	if err := v.tx.MkdirAll(ctx, catalog.Parent(name)); err != nil {
		return err
	}
	if err := v.tx.Symlink(ctx, name, relative(name, tree)); err != nil {
		return err
	}
	return p.recordChannel(ctx, h, v, ref, func(c *channelRecord) { c.history, c.rollout = history, nil })
}

// recordChannel changes a channel's record.
func (p *Publisher) recordChannel(ctx context.Context, h *head, v *view, ref reference.Reference, change func(*channelRecord)) error {
	name, _ := ref.RepositoryPath()
	record, err := v.record(ctx, ref)
	if err != nil {
		return err
	}
	change(&record)
	text, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("%s.json: %w", name, err)
	}
	stored, err := p.storeFiles(ctx, map[string][]byte{name: append(text, '\n')}, p.ingestOptions(h))
	if err != nil {
		return err
	}
	if err := v.tx.Remove(ctx, name+".json"); err != nil {
		return err
	}
	return v.tx.AddFile(ctx, name+".json", stored[name])
}

// RemoveChannel takes a channel away. What it pointed to stays.
func (p *Publisher) RemoveChannel(ctx context.Context, ref reference.Reference) (*ChannelChange, error) {
	r := &ChannelChange{Channel: ref}
	what := "remove channel " + ref.String()
	rev, err := p.edit(ctx, what, func(ctx context.Context, h *head, tx *revision.Tx) (bool, error) {
		c, err := (&view{st: p.o.Store, tx: tx}).channel(ctx, ref)
		if err != nil {
			return false, err
		}
		r.From, r.Tree = c.Version, c.Tree
		name, _ := ref.RepositoryPath()
		return true, errors.Join(tx.Remove(ctx, name+".json"), tx.Remove(ctx, name), prune(ctx, tx, name))
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	r.Revision = rev
	return r, nil
}

// relative is the target that makes a link at name point to the absolute path
// to.
func relative(name, to string) string {
	return strings.Repeat("../", strings.Count(name, "/")-1) + strings.TrimPrefix(to, "/")
}
