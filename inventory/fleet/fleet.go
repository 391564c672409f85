// Package fleet reads what cells say of their containers: which runs on which
// tree, since when. A cell's word comes as JSON from a file or over HTTP. What
// a cell says is believed, but bounded; a cell that says nothing is kept, with
// the reason, so that nobody counts it as having no containers.
package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rootstock-cf/rootstock/reference"
)

// MaxAnswer bounds what one source may say, in bytes.
const MaxAnswer = 64 << 20

// ErrInvalid reports an answer that is not a list of containers.
var ErrInvalid = errors.New("not a list of containers")

// Container is one container of a cell, as the cell's daemon records it.
type Container struct {
	Handle  string              `json:"handle"`
	Ref     reference.Reference `json:"ref"` // as asked for
	Tree    string              `json:"tree"`
	Version string              `json:"version,omitempty"` // as resolved
	Since   time.Time           `json:"since"`
}

// Cell is one cell's answer. Err says why there is none.
type Cell struct {
	Name       string
	Containers []Container
	Err        error
}

// document is a cell that gives its name; without, the list stands alone.
type document struct {
	Cell       string      `json:"cell"`
	Containers []Container `json:"containers"`
}

// Parse reads the answers of one or more cells: each a list of containers, or
// an object with "cell" and "containers". from names the cell of a list.
func Parse(r io.Reader, from string) ([]Cell, error) {
	limited := &io.LimitedReader{R: r, N: MaxAnswer + 1}
	dec := json.NewDecoder(limited)
	var all []Cell
	for {
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if limited.N <= 0 {
			return nil, fmt.Errorf("%w: more than %d bytes", ErrInvalid, MaxAnswer)
		}
		if errors.Is(err, io.EOF) && len(all) > 0 {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		c, err := parseOne(raw, from)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
}

func parseOne(raw json.RawMessage, from string) (Cell, error) {
	d := document{Cell: from}
	var err error
	if len(raw) > 0 && raw[0] == '[' {
		err = json.Unmarshal(raw, &d.Containers)
	} else if err = json.Unmarshal(raw, &d); err == nil && d.Containers == nil {
		err = errors.New(`it has no "containers"`)
	}
	if err != nil {
		return Cell{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if d.Cell == "" {
		d.Cell = from
	}
	return Cell{Name: d.Cell, Containers: d.Containers}, nil
}

// atOnce bounds the cells that are asked at the same time.
const atOnce = 32

// Ask reads every source, a file or an http or https URL, and returns the
// cells in the order of the sources. It fails for none: a source that cannot
// be read is a cell with Err. client's timeout bounds each request.
func Ask(ctx context.Context, client *http.Client, sources []string) []Cell {
	answers := make([][]Cell, len(sources))
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, s := range sources {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			cells, err := ask(ctx, client, s)
			if err != nil {
				cells = []Cell{{Name: nameOf(s), Err: err}}
			}
			answers[i] = cells
		})
	}
	wg.Wait()
	var all []Cell
	for _, a := range answers {
		all = append(all, a...)
	}
	return all
}

func ask(ctx context.Context, client *http.Client, source string) ([]Cell, error) {
	if !isURL(source) {
		f, err := os.Open(source)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		cells, err := Parse(f, nameOf(source))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", source, err)
		}
		return cells, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, source, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", source, resp.Status)
	}
	cells, err := Parse(resp.Body, nameOf(source))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	return cells, nil
}

func isURL(source string) bool {
	return strings.HasPrefix(source, "http://") || strings.HasPrefix(source, "https://")
}

// nameOf calls a cell that does not say its name after its source: the host of
// a URL, or a file's name.
func nameOf(source string) string {
	if isURL(source) {
		if u, err := url.Parse(source); err == nil {
			return u.Host
		}
	}
	return source
}
