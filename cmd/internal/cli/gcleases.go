package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/rootstock-cf/rootstock/inventory/fleet"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher/gc"
)

// fleetLeases begins a --leases that names cells instead of a file of leases.
const fleetLeases = "fleet:"

// leaseSources are where leases come from.
type leaseSources struct {
	cells      *cellFlags
	repository string
	// blind says that the grace period is longer than any container lives:
	// cells that do not answer are then no reason to stop.
	blind bool
	warn  io.Writer
}

// read collects the leases of all sources; nil if there are none.
func (s leaseSources) read(ctx context.Context, specs []string) (*gc.Leases, error) {
	var l *gc.Leases
	var cells []string
	for _, spec := range specs {
		if rest, ok := strings.CutPrefix(spec, fleetLeases); ok {
			for source := range strings.SplitSeq(rest, ",") {
				if source != "" {
					cells = append(cells, source)
				}
			}
			if rest == "" {
				return nil, errors.New("--leases fleet: names no cell; say fleet:FILE or fleet:URL,URL")
			}
			continue
		}
		var err error
		if l, err = readLeases(l, spec, s.repository); err != nil {
			return nil, err
		}
	}
	if len(cells) == 0 {
		return l, nil
	}
	if l == nil {
		l = gc.NewLeases(time.Now())
	}
	return l, s.ask(ctx, l, cells)
}

// ask adds what cells run to l. A cell that does not answer for this repository
// is an error, unless the grace period stands in for it.
func (s leaseSources) ask(ctx context.Context, l *gc.Leases, sources []string) error {
	asker, err := s.cells.asker()
	if err != nil {
		return err
	}
	var silent []string
	cells := asker.Ask(ctx, sources)
	for i := range cells {
		c := &cells[i]
		if err := c.Incomplete(); err != nil {
			silent = append(silent, fmt.Sprintf("cell %s: %v", c.Name, err))
			if c.Err != nil {
				continue
			}
		}
		if c.Asked.Before(l.Taken) {
			l.Taken = c.Asked
		}
		for j := range c.Containers {
			if err := s.add(l, &c.Containers[j]); err != nil {
				return fmt.Errorf("--leases: cell %s: container %s: %w", c.Name, shown(c.Containers[j].Handle), err)
			}
		}
	}
	if len(silent) == 0 {
		return nil
	}
	text := strings.Join(silent, "\n\t")
	if !s.blind {
		return fmt.Errorf("%w: not all cells answered (--grace of %s or more, longer than any container lives, goes on without them)\n\t%s", gc.ErrBlind, gc.MinBlindGrace, text)
	}
	fmt.Fprintf(s.warn, "not all cells answered; the grace period stands in for them\n\t%s\n", text)
	return nil
}

func (s leaseSources) add(l *gc.Leases, c *fleet.Container) error {
	if at := c.Ref.Repository; at != "" && at != s.repository {
		return nil
	}
	if c.Tree == "" && c.Catalog == "" {
		return fmt.Errorf("%w: it says neither its tree nor its catalog", gc.ErrLease)
	}
	if c.Tree != "" {
		id, err := object.ParseContentID(c.Tree)
		if err != nil {
			return fmt.Errorf("%w: tree: %w", gc.ErrLease, err)
		}
		l.Trees[id] = true
	}
	if c.Catalog != "" {
		h, err := object.ParseHash(c.Catalog)
		if err != nil {
			return fmt.Errorf("%w: catalog: %w", gc.ErrLease, err)
		}
		l.Catalogs[h] = true
	}
	return nil
}

// readLeases adds the leases in a file to those of others, if there are any.
func readLeases(l *gc.Leases, file, repository string) (*gc.Leases, error) {
	in, err := os.Open(file) // #nosec G304 -- the operator's file
	if err != nil {
		return nil, fmt.Errorf("--leases: %w", err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return nil, fmt.Errorf("--leases: %w", err)
	}
	if l == nil {
		l = gc.NewLeases(info.ModTime())
	}
	if err := l.Read(in, repository, info.ModTime()); err != nil {
		return nil, fmt.Errorf("--leases %s: %w", file, err)
	}
	return l, nil
}
