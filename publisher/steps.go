package publisher

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/rootstock-cf/rootstock/reference"
)

// Put publishes one tree.
type Put struct {
	Name string         // what people call the source
	Kind reference.Kind // of the tree
	// Reference is the tree's name as far as it is known before its source is
	// open; it may be empty.
	Reference reference.Reference
	// Open opens the source, whose Job has a name with a version. It is called
	// once for each time the step is carried out; the Source is closed then.
	Open func(ctx context.Context) (Job, error)
}

func (s *Put) String() string { return s.Name }

// want notes which tree the step is about, as well as it is known.
func (s *Put) want(b *batch, j *Job) {
	switch {
	case j != nil:
		b.wanted[j.Reference] = true
	case s.Reference.Version != "":
		b.wanted[s.Reference] = true
	default:
		b.unsure[s.Kind] = true
	}
}

func (s *Put) apply(ctx context.Context, b *batch) (o Outcome) {
	j, err := s.Open(ctx)
	if err != nil {
		s.want(b, nil)
		return Outcome{Err: err}
	}
	defer func() { o.Err = errors.Join(o.Err, j.Source.Close()) }()
	if err := j.Reference.Validate(); err != nil {
		s.want(b, nil)
		return Outcome{Err: err}
	}
	if j.Reference.Version == "" {
		s.want(b, nil)
		return Outcome{Err: errNoVersion}
	}
	s.want(b, &j)
	if b.dry {
		o.Result, o.Changed, err = b.rehearse(ctx, j)
	} else {
		o.Result, o.Changed, err = b.p.stage(ctx, b.h, b.tx, j)
	}
	if err != nil {
		return Outcome{Err: fmt.Errorf("publish %s: %w", j.Reference, err)}
	}
	o.Result.Unchanged = !o.Changed
	return o
}

// rehearse says what stage would do as far as that is known without reading the
// source.
func (b *batch) rehearse(ctx context.Context, j Job) (r *Result, changed bool, err error) {
	at, _ := j.treePath()
	if r, err = b.p.found(ctx, b.tx, j, at); err != nil {
		return nil, false, err
	}
	if r == nil {
		r, changed = &Result{Reference: j.Reference, Path: at, Source: j.Source.Digest}, true
	} else if j.Reference.Kind == reference.Images {
		e, ok, err := b.tx.Lookup(ctx, imageLink(j.Reference))
		if err != nil {
			return nil, false, err
		}
		changed = !ok || e.Symlink != relative(imageLink(j.Reference), at)
	}
	attested, err := b.p.attested(ctx, b.tx, j, r)
	if err != nil {
		return nil, false, err
	}
	changed = changed || !attested
	if changed {
		b.planned = append(b.planned, Listed{Reference: j.Reference, Path: at, Tree: r.Tree, Published: b.p.o.Now()})
	}
	return r, changed, nil
}

func imageLink(ref reference.Reference) string {
	name, _ := ref.RepositoryPath()
	return name
}

// Point makes a channel point to a version.
type Point struct {
	Channel reference.Reference // with Channel set
	Version string              // "" is the newest
}

func (s *Point) String() string { return s.Channel.String() }

func (s *Point) apply(ctx context.Context, b *batch) (o Outcome) {
	o.Channel = &ChannelChange{Channel: s.Channel}
	v := b.view()
	ref := s.Channel.WithVersion(s.Version)
	if b.dry {
		var newest *Listed
		for i := range b.planned {
			if p := &b.planned[i]; p.Reference == ref || s.Version == "" && p.Reference.Kind == ref.Kind && p.Reference.Name == ref.Name {
				newest = p
			}
		}
		if newest != nil {
			o.Channel.To, o.Changed = newest.Reference.Version, true
			if now, err := v.channel(ctx, s.Channel); err == nil {
				o.Channel.From = now.Version
			}
			return o
		}
	}
	to := sparingRollout(pointTo(ref))
	o.Changed, o.Err = b.p.point(ctx, b.h, v, s.Channel, to, o.Channel, b.dry)
	if o.Err != nil {
		return Outcome{Err: fmt.Errorf("set %s: %w", s.Channel, o.Err)}
	}
	return o
}

// sparingRollout leaves a channel alone that an operator is moving ring by ring
// from, or to, the version chosen: a list that is applied over and over must not
// end what a person has begun.
func sparingRollout(choose chooser) chooser {
	return func(ctx context.Context, v *view, now *Channel) (move, error) {
		m, err := choose(ctx, v, now)
		if err == nil && now != nil && now.Rollout != nil {
			wanted := m.to.Reference.Version
			m.nothing = wanted == now.Version || wanted == now.Rollout.Version
		}
		return m, err
	}
}

// Keep removes old versions: of each name that Names matches all but the
// youngest Versions, those that a channel points to, and those that a Put of the
// same batch names.
type Keep struct {
	Kind reference.Kind
	// Names is a name, or a pattern of [path.Match].
	Names    string
	Versions int
}

func (s *Keep) String() string { return fmt.Sprintf("keep %d of %s/%s", s.Versions, s.Kind, s.Names) }

func (s *Keep) apply(ctx context.Context, b *batch) Outcome {
	o := Outcome{}
	if s.Versions < 1 {
		return Outcome{Err: errors.New("at least one version has to stay")}
	}
	if b.unsure[s.Kind] {
		return Outcome{Err: errors.New("nothing is removed while a source of that kind fails before it says its name")}
	}
	all, err := b.view().all(ctx)
	if err != nil {
		return Outcome{Err: err}
	}
	byAge(all)
	kept := map[string]int{}
	for _, p := range b.planned {
		if p.Reference.Kind == s.Kind {
			kept[p.Reference.Name]++
		}
	}
	for _, t := range all {
		ref := t.Reference
		if ref.Kind != s.Kind {
			continue
		}
		if ok, err := path.Match(s.Names, ref.Name); err != nil {
			return Outcome{Err: fmt.Errorf("%q: %w", s.Names, err)}
		} else if !ok {
			continue
		}
		if b.wanted[ref] || kept[ref.Name] < s.Versions {
			kept[ref.Name]++
			continue
		}
		r, err := s.remove(ctx, b, t)
		if errors.Is(err, ErrInUse) {
			continue
		}
		if err != nil {
			return Outcome{Err: halfDone(fmt.Errorf("remove %s: %w", ref, err))}
		}
		o.Removed, o.Changed = append(o.Removed, *r), true
	}
	return o
}

func (s *Keep) remove(ctx context.Context, b *batch, t Listed) (*Removed, error) {
	v := b.view()
	if !b.dry {
		return v.remove(ctx, t.Reference)
	}
	all, err := v.all(ctx)
	if err != nil {
		return nil, err
	}
	return &Removed{Reference: t.Reference, Path: t.Path, Tree: t.Tree}, v.unused(ctx, t, sharedPath(all, t))
}
