package publisher_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/reference/rollout"
)

func plan(t *testing.T, rings ...string) (p publisher.Plan) {
	t.Helper()
	for _, text := range rings {
		r, err := rollout.ParseRing(text)
		if err != nil {
			t.Fatal(err)
		}
		p.Rings = append(p.Rings, r)
	}
	return p
}

// onlyChannel is the repository's.
func (s *site) onlyChannel() publisher.Channel {
	s.t.Helper()
	all, err := publisher.Channels(s.t.Context(), s.o.Store, s.o.TempDir)
	s.must(err)
	if len(all) != 1 {
		s.t.Fatalf("%d channels", len(all))
	}
	return all[0]
}

// A rollout leaves the channel's link where it is until its last ring has been
// promoted; the state is in the record all the while.
func TestRollout(t *testing.T) {
	s := newSite(t)
	ctx, stable := t.Context(), ref(t, "rootfs/x:stable")
	for i := range 4 {
		s.mustPublish(fmt.Sprintf("rootfs/x@%d", i), rootfs(t, fmt.Sprintf("f=%d", i)))
	}
	p := s.open()
	two := plan(t, "canary=5%", "early=25%")
	two.Soak = time.Hour

	if _, err := p.StartRollout(ctx, stable, "1", two); !errors.Is(err, publisher.ErrNotFound) {
		t.Errorf("without a channel: %v", err)
	}
	_, err := p.SetChannel(ctx, stable, "1")
	s.must(err)
	for name, step := range map[string]func(reference.Reference) (*publisher.ChannelChange, error){
		"promote": func(r reference.Reference) (*publisher.ChannelChange, error) { return p.Promote(ctx, r, false) },
		"halt":    func(r reference.Reference) (*publisher.ChannelChange, error) { return p.Halt(ctx, r, "x") },
		"resume":  func(r reference.Reference) (*publisher.ChannelChange, error) { return p.Unhalt(ctx, r) },
	} {
		if _, err := step(stable); !errors.Is(err, publisher.ErrNoRollout) {
			t.Errorf("%s without a rollout: %v", name, err)
		}
		if _, err := step(stable.WithChannel("none")); !errors.Is(err, publisher.ErrNotFound) {
			t.Errorf("%s without a channel: %v", name, err)
		}
	}
	if _, err := p.StartRollout(ctx, stable, "1", two); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("to where it is: %v", err)
	}
	if _, err := p.StartRollout(ctx, stable, "2", publisher.Plan{}); !errors.Is(err, rollout.ErrInvalid) {
		t.Errorf("without a ring: %v", err)
	}

	start := func(version string) *rollout.State {
		t.Helper()
		c, err := p.StartRollout(ctx, stable, version, two)
		s.must(err)
		if now := s.onlyChannel(); c.To != "1" || now.Version != "1" || now.Rollout == nil || now.Rollout.Version != version || now.Rollout.Open != 1 {
			t.Fatalf("%+v, %+v", c, now)
		}
		return s.onlyChannel().Rollout
	}
	began := start("2")
	if began.Target != "../../../rootfs/x/2" || began.Tree == "" || began.Soak != 3600 {
		t.Errorf("%+v", began)
	}
	// Neither what all others have nor what the rings have can go.
	for version, user := range map[string]string{"1": "rootfs/x:stable", "2": "the rollout of rootfs/x:stable"} {
		if _, err := p.Remove(ctx, ref(t, "rootfs/x@"+version)); !errors.Is(err, publisher.ErrInUse) || !strings.Contains(err.Error(), user) {
			t.Errorf("remove %s: %v", version, err)
		}
	}
	if _, err := p.Promote(ctx, stable, false); !errors.Is(err, publisher.ErrTooEarly) {
		t.Fatalf("before it has soaked: %v", err)
	}
	s.now = s.now.Add(time.Hour)
	c, err := p.Promote(ctx, stable, false)
	s.must(err)
	if now := s.onlyChannel(); c.Rollout.Open != 2 || now.Rollout.Open != 2 || now.Version != "1" || !now.Rollout.Opened.After(began.Opened) {
		t.Fatalf("%+v, %+v", c, now)
	}

	c, err = p.Halt(ctx, stable, "it crashes")
	s.must(err)
	was := c.Revision
	c, err = p.Halt(ctx, stable, "another reason")
	s.must(err)
	if now := s.onlyChannel().Rollout; c.Revision != was || !c.Unchanged || now.Halted == nil || now.Halted.Reason != "it crashes" || now.Open != 2 {
		t.Fatalf("%+v, %+v", c, now)
	}
	for _, early := range []bool{false, true} {
		if _, err := p.Promote(ctx, stable, early); !errors.Is(err, publisher.ErrHalted) || !strings.Contains(err.Error(), "it crashes") {
			t.Fatalf("halted: %v", err)
		}
	}
	_, err = p.Unhalt(ctx, stable)
	s.must(err)
	if _, err := p.Promote(ctx, stable, false); !errors.Is(err, publisher.ErrTooEarly) {
		t.Fatalf("right after it was resumed: %v", err)
	}
	c, err = p.Promote(ctx, stable, true)
	s.must(err)
	if now := s.onlyChannel(); c.From != "1" || c.To != "2" || now.Rollout != nil || now.Version != "2" || len(now.Previous) != 1 || now.Previous[0].Version != "1" {
		t.Fatalf("%+v, %+v", c, now)
	}
	// The whole of it is one move.
	c, err = p.RollbackChannel(ctx, stable)
	s.must(err)
	if c.To != "1" {
		t.Fatalf("%+v", c)
	}

	// A rollback takes a rollout back and nothing else; a plain set ends it.
	start("2")
	c, err = p.RollbackChannel(ctx, stable)
	s.must(err)
	if now := s.onlyChannel(); now.Rollout != nil || now.Version != "1" || c.Was == nil || c.Was.Version != "2" {
		t.Fatalf("%+v, %+v", c, now)
	}
	start("2")
	start("3") // in place of it
	_, err = p.SetChannel(ctx, stable, "1")
	s.must(err)
	if now := s.onlyChannel(); now.Rollout != nil || now.Version != "1" {
		t.Fatalf("%+v", now)
	}
	start("3")
	_, err = p.SetChannel(ctx, stable, "0")
	s.must(err)
	if now := s.onlyChannel(); now.Rollout != nil || now.Version != "0" {
		t.Fatalf("%+v", now)
	}
}
