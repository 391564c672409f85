package rollout_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rootstock-cf/rootstock/reference/rollout"
)

// state is a valid one whose rings are these.
func state(t rapid.TB, open int, rings ...string) *rollout.State {
	s := &rollout.State{
		Format: rollout.Format, Version: "2", Tree: "t", Target: "../../../rootfs/demo/2", Seed: "rootfs/demo:stable@2",
		Began: time.Unix(1, 0), Opened: time.Unix(1, 0), Open: open,
	}
	for _, text := range rings {
		r, err := rollout.ParseRing(text)
		if err != nil {
			t.Fatal(err)
		}
		s.Rings = append(s.Rings, r)
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	return s
}

func cells(n int) (all []rollout.Cell) {
	for i := range n {
		all = append(all, rollout.Cell{ID: fmt.Sprintf("cell-%d", i)})
	}
	return all
}

func count(s *rollout.State, all []rollout.Cell) (n int) {
	for _, c := range all {
		if _, ok := s.In(c); ok {
			n++
		}
	}
	return n
}

// Of many cells a ring has about its share, whatever the seed: within five
// standard deviations.
func TestShare(t *testing.T) {
	all := cells(4000)
	rapid.Check(t, func(t *rapid.T) {
		share := rapid.IntRange(1, rollout.Whole).Draw(t, "share")
		s := state(t, 1, fmt.Sprintf("canary=%g%%", float64(share)/100))
		s.Seed = rapid.String().Draw(t, "seed")
		p := float64(share) / rollout.Whole
		n, want := float64(count(s, all)), p*float64(len(all))
		if math.Abs(n-want) > 5*math.Sqrt(want*(1-p))+1 {
			t.Fatalf("%v of %d cells are in, %v were expected", n, len(all), want)
		}
	})
}

// A cell that is in stays in when further rings are opened, and what is said of
// the next step is what the step does.
func TestMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var rings []string
		for i := range rapid.IntRange(1, 5).Draw(t, "rings") {
			text := fmt.Sprintf("r%d=%d%%", i, rapid.IntRange(1, 100).Draw(t, "share"))
			if rapid.Bool().Draw(t, "labelled") {
				text += ",zone=" + rapid.SampledFrom([]string{"z1", "z2"}).Draw(t, "zone")
			}
			rings = append(rings, text)
		}
		c := rollout.Cell{ID: rapid.String().Draw(t, "id")}
		if rapid.Bool().Draw(t, "has a zone") {
			c.Labels = map[string]string{"zone": rapid.SampledFrom([]string{"z1", "z2"}).Draw(t, "cell's zone"), "other": "x"}
		}
		was := ""
		for open := 1; open <= len(rings); open++ {
			s := state(t, open, rings...)
			now, ok := s.In(c)
			if was != "" && now != was {
				t.Fatalf("with %d rings it is in %q, before it was in %q", open, now, was)
			}
			if after := open == len(rings); s.InAfter(c) != (after || inNext(t, c, open+1, rings)) {
				t.Fatalf("with %d rings it says otherwise of the next", open)
			}
			if ok {
				was = now
			}
		}
	})
}

func inNext(t *rapid.T, c rollout.Cell, open int, rings []string) bool {
	_, ok := state(t, open, rings...).In(c)
	return ok
}

// 5%, then 50%, as operators do it: the first cells are among the later ones.
func TestSmallRingIsPartOfLarger(t *testing.T) {
	small, large := state(t, 1, "a=5%"), state(t, 1, "a=50%")
	for _, c := range cells(2000) {
		_, first := small.In(c)
		if _, later := large.In(c); first && !later {
			t.Fatalf("%s is in 5%% and not in 50%%", c.ID)
		}
	}
}

// The answer is part of the format: cells and tools of all releases give it.
func TestAnswerIsFixed(t *testing.T) {
	for seed, want := range map[string]string{"rootfs/demo:stable@2": "2 4 10 11 15 18 19", "another": "3 14"} {
		var in []string
		s := state(t, 1, "canary=20%")
		s.Seed = seed
		for _, c := range cells(20) {
			if _, ok := s.In(c); ok {
				in = append(in, strings.TrimPrefix(c.ID, "cell-"))
			}
		}
		if got := strings.Join(in, " "); got != want {
			t.Errorf("with seed %q %q are in, not %q", seed, got, want)
		}
	}
}

func TestLabels(t *testing.T) {
	s := state(t, 1, "edge=zone=z1,stage=dev")
	for _, c := range []struct {
		labels map[string]string
		in     bool
	}{
		{nil, false},
		{map[string]string{"zone": "z1"}, false},
		{map[string]string{"zone": "z1", "stage": "prod"}, false},
		{map[string]string{"zone": "z1", "stage": "dev", "more": "x"}, true},
	} {
		if ring, in := s.In(rollout.Cell{ID: "a", Labels: c.labels}); in != c.in || in && ring != "edge" {
			t.Errorf("%v: %q %v", c.labels, ring, in)
		}
	}
}

func TestText(t *testing.T) {
	for _, text := range []string{"canary=5%", "a=0.25%", "a=100%,stage=dev,zone=z1"} {
		r, err := rollout.ParseRing(text)
		if err != nil || r.String() != text {
			t.Errorf("%q is read as %q, %v", text, r, err)
		}
	}
	if r, err := rollout.ParseRing("a=zone=z1"); err != nil || r.Share != rollout.Whole {
		t.Errorf("%v, %v", r, err)
	}
	for _, text := range []string{
		"", "canary", "=5%", "canary=", "a=0%", "a=101%", "a=5", "a=-5%", "a=+5%", "a=5.123%", "a=5%,6%", "a=x=1,x=2", "a b=5%", "a=z=", "a=%", "a=1e3%",
	} {
		if r, err := rollout.ParseRing(text); !errors.Is(err, rollout.ErrInvalid) {
			t.Errorf("%q is read as %q, %v", text, r, err)
		}
	}
	if c, err := rollout.ParseCondition("restarts > 1.5x"); err != nil || c.String() != "restarts>1.5x" {
		t.Errorf("%v, %v", c, err)
	}
	for _, text := range []string{"", "restarts", "restarts>2", "restarts<2x", "restarts>0x", "restarts>-1x", "restarts>NaNx", "restarts>Infx", "errors>2x"} {
		if c, err := rollout.ParseCondition(text); !errors.Is(err, rollout.ErrInvalid) {
			t.Errorf("%q is read as %q, %v", text, c, err)
		}
	}
}

// A record says nothing, something that is understood, or is an error; it never
// makes a cell do what the state does not say.
func TestParse(t *testing.T) {
	good, err := json.Marshal(map[string]any{"history": []int{}, rollout.Field: state(t, 1, "a=5%")})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := rollout.Parse(good); err != nil || s == nil || s.Rings[0].String() != "a=5%" {
		t.Fatalf("%+v, %v", s, err)
	}
	for _, none := range []string{"{}", `{"history":[],"other":1}`, `{"rollout":null}`} {
		if s, err := rollout.Parse([]byte(none)); err != nil || s != nil {
			t.Errorf("%s: %+v, %v", none, s, err)
		}
	}
	change := func(from, to string) string {
		text := strings.Replace(string(good), from, to, 1)
		if text == string(good) {
			t.Fatalf("there is no %s in %s", from, good)
		}
		return text
	}
	var labels string
	for i := range rollout.MaxLabels + 1 {
		labels += fmt.Sprintf(`,"l%d":"v"`, i)
	}
	for _, bad := range []string{
		"", "[]", "x", `{"rollout":{}}`, `{"rollout":[]}`,
		change(`"format":1`, `"format":2`), change(`"open":1`, `"open":2`), change(`"open":1`, `"open":0`), change(`"open":1`, `"open":-1`),
		change(`"share":500`, `"share":0`), change(`"share":500`, `"share":-1`), change(`"share":500`, `"share":10001`), change(`"share":500`, `"share":1e99`),
		change(`"version":"2"`, `"version":""`), change(`"version":"2"`, `"version":"`+strings.Repeat("x", 300)+`"`),
		change(`"rings":[`, `"rings":[{"name":"a","share":1},`),
		change(`"rings":[`, `"rings":[`+strings.Repeat(`{"name":"b","share":1},`, rollout.MaxRings)),
		change(`"target":"`, `"target":"`+strings.Repeat("x", 1<<13)), change(`"share":500`, `"share":500,"labels":{`+labels[1:]+`}`),
		change(`"open":1`, `"open":1,"halt_on":[{"metric":"x","factor":1}]`), change(`"open":1`, `"open":1,"soak_seconds":-1`),
		strings.Repeat(" ", rollout.MaxRecord) + "{}",
	} {
		if s, err := rollout.Parse([]byte(bad)); !errors.Is(err, rollout.ErrInvalid) {
			t.Errorf("%.80s: %+v, %v", bad, s, err)
		}
	}
}
