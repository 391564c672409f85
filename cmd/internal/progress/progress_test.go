package progress_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/cmd/internal/progress"
	"github.com/rootstock-cf/rootstock/internal/testterminal"
)

// clock ticks when it is told to.
type clock struct {
	now    time.Time
	ticks  chan time.Time
	period time.Duration
}

func (c *clock) Now() time.Time { return c.now }

func (c *clock) Tick(d time.Duration) (<-chan time.Time, func()) {
	c.period = d
	return c.ticks, func() {}
}

// run is a line that is told of a run, step by step.
type run struct {
	clock *clock
	state progress.State
	asked chan struct{}
	line  *progress.Line
}

func start(o progress.Options) *run {
	r := &run{
		clock: &clock{now: time.Unix(1700000000, 0), ticks: make(chan time.Time)},
		asked: make(chan struct{}, 1), state: progress.State{Doing: "publishing"},
	}
	o.Clock, o.State = r.clock, func() progress.State {
		s := r.state
		r.asked <- struct{}{}
		return s
	}
	if r.line = progress.Start(o); !o.Quiet {
		<-r.asked
	}
	return r
}

// step lets time go by until the line has asked for a state.
func (r *run) step(d time.Duration, s progress.State) {
	r.clock.now = r.clock.now.Add(d)
	r.state = s
	r.clock.ticks <- r.clock.now
	<-r.asked
}

const mib = 1 << 20

func bytesOf(done, total int64) progress.State {
	return progress.State{Doing: "publishing", Bytes: done * mib, Done: done * mib, Total: total * mib, InBytes: true}
}

func TestLines(t *testing.T) {
	for name, tc := range map[string]struct {
		options progress.Options
		states  []progress.State // ten seconds apart
		want    []string
	}{
		"total known": {states: []progress.State{bytesOf(100, 1000), bytesOf(300, 1000), bytesOf(1000, 1000)}, want: []string{
			"publishing 100.0 MiB of 1000.0 MiB (10%), 10.0 MiB/s, 1m30s left",
			"publishing 300.0 MiB of 1000.0 MiB (30%), 15.0 MiB/s, 47s left",
			"publishing 1000.0 MiB of 1000.0 MiB (100%), 45.0 MiB/s",
		}},
		"slower lately": {states: []progress.State{bytesOf(500, 1000), bytesOf(510, 1000), bytesOf(520, 1000)}, want: []string{
			"publishing 500.0 MiB of 1000.0 MiB (50%), 50.0 MiB/s, 10s left",
			"publishing 510.0 MiB of 1000.0 MiB (51%), 25.5 MiB/s, 19s left",
			"publishing 520.0 MiB of 1000.0 MiB (52%), 1.0 MiB/s, 8m0s left",
		}},
		"stalled": {states: []progress.State{bytesOf(0, 1000), bytesOf(0, 1000)}, want: []string{
			"publishing 0 B of 1000.0 MiB (0%)", "publishing 0 B of 1000.0 MiB (0%)",
		}},
		"total unknown": {states: []progress.State{{Doing: "replicating", What: "7 objects", Bytes: 10 * mib}, {Doing: "replicating", What: "9 objects", Bytes: 30 * mib}}, want: []string{
			"replicating 7 objects, 10.0 MiB, 0 B/s", // begun just now
			"replicating 9 objects, 30.0 MiB, 2.0 MiB/s",
		}},
		"share in other units": {states: []progress.State{
			{Doing: "marking", What: "3 catalogs"},
			{Doing: "sweeping", What: "0 deleted", Done: 64, Total: 256},
			{Doing: "sweeping", What: "9 deleted", Bytes: 10 * mib, Done: 128, Total: 256},
		}, want: []string{"marking 3 catalogs", "sweeping 0 deleted (25%)", "sweeping 9 deleted, 10.0 MiB (50%), 1.0 MiB/s, 20s left"}},
		"more than there was to be": {states: []progress.State{bytesOf(20, 10)}, want: []string{"publishing 20.0 MiB of 10.0 MiB (100%), 2.0 MiB/s"}},
		"quiet":                     {options: progress.Options{Quiet: true}},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			tc.options.Out = &out
			r := start(tc.options)
			for _, s := range tc.states {
				r.step(10*time.Second, s)
			}
			r.line.End()
			r.line.End() // does no harm
			if got, want := out.String(), strings.Join(append(tc.want, ""), "\n"); got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
			if period := r.clock.period; tc.options.Quiet && period != 0 || !tc.options.Quiet && period != 10*time.Second {
				t.Errorf("a line every %s", period)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	r := start(progress.Options{Out: &out, JSON: true})
	r.step(10*time.Second, bytesOf(250, 1000))
	r.step(10*time.Second, progress.State{Doing: "replicating", Bytes: mib})
	r.line.End()
	want := []string{
		`{"message_type":"progress","doing":"publishing","bytes":262144000,"bytes_total":1048576000,"bytes_per_second":26214400,"share":0.25,"seconds_left":30}`,
		`{"message_type":"progress","doing":"replicating","bytes":1048576,"bytes_per_second":0}`,
	}
	if got := strings.TrimSpace(out.String()); got != strings.Join(want, "\n") {
		t.Errorf("got %s", got)
	}
	for l := range strings.Lines(out.String()) {
		if !json.Valid([]byte(l)) {
			t.Errorf("%q is no JSON", l)
		}
	}
}

// On a terminal one line is drawn again and again, never longer than there is
// room, and gives way to other lines.
func TestTerminal(t *testing.T) {
	shown, tty := testterminal.New(t, 40)
	r := start(progress.Options{Out: tty})
	if r.clock.period != 250*time.Millisecond {
		t.Errorf("drawn every %s", r.clock.period)
	}
	see := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(shown, got); err != nil || string(got) != want {
			t.Errorf("%v, got %q, want %q", err, got, want)
		}
	}
	const anew = "\r\x1b[K"
	r.step(time.Second, progress.State{Doing: "publishing", Bytes: 5 * mib})
	see(anew + "publishing 5.0 MiB, 5.0 MiB/s")
	r.step(time.Second, bytesOf(10, 1000))
	see(anew + "publishing 10.0 MiB of 1000.0 MiB (1%),") // 39 columns
	fmt.Fprintf(r.line, "something happened\n")
	see(anew + "something happened\r\n")
	r.line.Pause(func() { fmt.Fprint(tty, "finding\n") })
	see("finding\r\n") // nothing to take away
	r.step(time.Second, bytesOf(15, 1000))
	see(anew + "publishing 15.0 MiB of 1000.0 MiB (1%),")
	r.line.End()
	fmt.Fprint(tty, "done")
	see(anew + "done")
}

// Programs get lines on a terminal, too.
func TestJSONOnTerminal(t *testing.T) {
	shown, tty := testterminal.New(t, 40)
	r := start(progress.Options{Out: tty, JSON: true})
	r.step(10*time.Second, progress.State{Doing: "publishing", Bytes: 10 * mib})
	r.line.End()
	line, err := bufio.NewReader(shown).ReadString('\n')
	if want := `{"message_type":"progress","doing":"publishing","bytes":10485760,"bytes_per_second":1048576}` + "\r\n"; err != nil || line != want {
		t.Errorf("%v, got %q", err, line)
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536 * mib: "1.5 GiB", 5 << 50: "5.0 PiB"} {
		if got := progress.Size(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
