package rootfsprovider_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/rootfsprovider"
)

// dieVar makes the test binary a process that does one operation and kills
// itself on the way.
const dieVar = "ROOTFSPROVIDER_TEST_DIE"

// order is what such a process does.
type order struct {
	Config  rootfsprovider.Config
	Request rootfsprovider.Request
	Delete  bool
	Step    string // to die after
}

func TestMain(m *testing.M) {
	if text := os.Getenv(dieVar); text != "" {
		fmt.Println(obey(text))
		os.Exit(2)
	}
	os.Exit(m.Run())
}

func obey(text string) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	p := rootfsprovider.New(o.Config, &control.Client{Socket: o.Config.Socket}, slog.New(slog.DiscardHandler))
	rootfsprovider.SetStep(p, func(name string) error {
		if name == o.Step {
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return nil
	})
	if o.Delete {
		return p.Delete(context.Background(), o.Request.Handle)
	}
	_, err := p.Create(context.Background(), o.Request)
	return err
}

// die runs o in a process of its own and reports whether it died as ordered.
func die(t *testing.T, o order) {
	t.Helper()
	text, err := json.Marshal(o)
	must(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), dieVar+"="+string(text))
	out, err := cmd.CombinedOutput()
	if ee, ok := errors.AsType[*exec.ExitError](err); !ok || ee.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the process was to die at %q: %v: %s", o.Step, err, out)
	}
}

// steps runs a create and a delete and returns the steps of each.
func (c *cell) steps(r rootfsprovider.Request) (create, del []string) {
	c.t.Helper()
	p := c.provider()
	rootfsprovider.SetStep(p, func(name string) error { create = append(create, name); return nil })
	_, err := p.Create(c.t.Context(), r)
	must(c.t, err)
	rootfsprovider.SetStep(p, func(name string) error { del = append(del, name); return nil })
	must(c.t, p.Delete(c.t.Context(), r.Handle))
	c.clean()
	return create, del
}

// Each kind of container, with everything a crash can leave.
var crashes = map[string]struct {
	mapped bool
	r      rootfsprovider.Request
}{
	"plain":   {false, rootfsprovider.Request{URI: uri, Handle: "h"}},
	"limited": {false, rootfsprovider.Request{URI: uri, Handle: "h", DiskLimit: 1 << 20, ExcludeImage: true}},
	"mapped":  {true, rootfsprovider.Request{URI: uri, Handle: "h"}},
	"both":    {true, rootfsprovider.Request{URI: uri, Handle: "h", DiskLimit: 1 << 20, ExcludeImage: true}},
}

// A create or delete killed at any step leaves only what a delete, a
// collection, or a create of the same handle takes away.
func TestKilled(t *testing.T) {
	for name, tc := range crashes {
		t.Run(name, func(t *testing.T) {
			c := newCell(t)
			if tc.mapped {
				c.conf.UIDMaps, c.conf.GIDMaps = guardian, guardian
			}
			create, del := c.steps(tc.r)
			if len(create) < 6 || len(del) < 4 || slices.Contains(create, "mapped") != tc.mapped {
				t.Fatalf("steps %v, %v", create, del)
			}
			for _, step := range create {
				die(t, order{c.conf, tc.r, false, step})
				c.recover(t, tc.r, "create killed after "+step, step == "ready")
			}
			for _, step := range del {
				c.create(tc.r.Handle)
				die(t, order{c.conf, tc.r, true, step})
				must(t, c.provider().Delete(t.Context(), tc.r.Handle))
				c.report(t, "delete killed after "+step+", then delete")
			}
		})
	}
}

// recover tries the ways out of a create that died. The test has left things
// behind once; each way is tried on things left anew.
func (c *cell) recover(t *testing.T, r rootfsprovider.Request, what string, ready bool) {
	t.Helper()
	must(t, c.provider().Delete(t.Context(), r.Handle))
	c.report(t, what+", then delete")
	if ready {
		return // a container like any other, to which the other ways do nothing
	}
	step := strings.TrimPrefix(what, "create killed after ")
	die(t, order{c.conf, r, false, step})
	cleaned, err := c.provider().GC(t.Context())
	if err != nil || len(cleaned) != 1 || cleaned[0] != r.Handle {
		t.Errorf("%s: GC = %v, %v", what, cleaned, err)
	}
	c.report(t, what+", then collection")
	die(t, order{c.conf, r, false, step})
	if _, err := c.provider().Create(t.Context(), r); err != nil {
		t.Errorf("%s, then create: %v", what, err)
	}
	must(t, c.provider().Delete(t.Context(), r.Handle))
	c.report(t, what+", then create and delete")
}

func (c *cell) report(t *testing.T, what string) {
	t.Helper()
	left := c.leftovers()
	if pins := c.daemon.Pins(); len(pins) > 0 {
		left = append(left, fmt.Sprintf("pinned: %v", pins))
	}
	if len(left) > 0 {
		t.Errorf("%s: %s", what, strings.Join(left, "\n"))
	}
}

// A step that fails leaves nothing and is reported, whatever it is.
func TestFailedStep(t *testing.T) {
	broken := errors.New("broken")
	for name, tc := range crashes {
		t.Run(name, func(t *testing.T) {
			c := newCell(t)
			if tc.mapped {
				c.conf.UIDMaps, c.conf.GIDMaps = guardian, guardian
			}
			create, del := c.steps(tc.r)
			for _, step := range create {
				p := c.provider()
				rootfsprovider.SetStep(p, func(name string) error {
					if name == step {
						return broken
					}
					return nil
				})
				if _, err := p.Create(t.Context(), tc.r); !errors.Is(err, broken) {
					t.Errorf("%s fails: %v", step, err)
				}
				c.report(t, "create failed at "+step)
			}
			for _, step := range del {
				c.create(tc.r.Handle)
				p := c.provider()
				rootfsprovider.SetStep(p, func(name string) error {
					if name == step {
						return broken
					}
					return nil
				})
				if err := p.Delete(t.Context(), tc.r.Handle); !errors.Is(err, broken) {
					t.Errorf("%s fails: %v", step, err)
				}
				must(t, c.provider().Delete(t.Context(), tc.r.Handle))
				c.report(t, "delete failed at "+step)
			}
		})
	}
}

// A collection leaves containers alone.
func TestGCSparesContainers(t *testing.T) {
	c := newCell(t)
	spec := c.create("h")
	cleaned, err := c.provider().GC(t.Context())
	if err != nil || len(cleaned) != 0 {
		t.Errorf("GC = %v, %v", cleaned, err)
	}
	if _, err := os.Stat(spec.Root.Path + "/etc/file"); err != nil {
		t.Error(err)
	}
	// Not even where the record cannot be read: only a delete is a reason.
	record := c.conf.Store + "/records/h.json"
	must(t, os.WriteFile(record, []byte("{"), 0o600))
	if cleaned, err := c.provider().GC(t.Context()); err == nil || len(cleaned) != 0 {
		t.Errorf("GC of an unreadable record = %v, %v", cleaned, err)
	}
	if _, err := c.provider().Create(t.Context(), rootfsprovider.Request{URI: uri, Handle: "h"}); err == nil {
		t.Error("create over an unreadable record")
	}
	if _, err := os.Stat(spec.Root.Path + "/etc/file"); err != nil {
		t.Error(err)
	}
	must(t, c.provider().Delete(t.Context(), "h"))
	c.clean()
}

// An empty record is what a power cut can make of one; no live container has
// it.
func TestEmptyRecord(t *testing.T) {
	c := newCell(t)
	c.create("h")
	must(t, os.Truncate(c.conf.Store+"/records/h.json", 0))
	if _, err := c.provider().Stats(t.Context(), "h"); !errors.Is(err, rootfsprovider.ErrUnknown) {
		t.Errorf("Stats: %v", err)
	}
	if cleaned, err := c.provider().GC(t.Context()); err != nil || len(cleaned) != 1 {
		t.Errorf("GC = %v, %v", cleaned, err)
	}
	c.clean()
}
