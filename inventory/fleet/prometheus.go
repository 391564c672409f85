package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/rootstock-cf/rootstock/reference"
)

// The metrics of cells that say what they run, and the one that every cell
// exports.
const (
	MetricContainers = "rootstock_cell_version_containers"
	MetricBehind     = "rootstock_cell_version_behind_containers"
	metricAny        = "rootstock_cell_draining"
)

// remembered is for how long a cell that is no longer scraped is missed.
const remembered = "1d"

// Other is the name under which a cell's metrics count what is over their bound.
const Other = "other"

// Prometheus asks a Prometheus server, at its base URL, what cells run. Cells
// that it scraped within a day and has no sample of now are silent, and so are
// targets that are down among those of cells. What it knows are counts: no
// handles, apps or trees.
func (a *Asker) Prometheus(ctx context.Context, base string) ([]Cell, error) {
	cells, err := a.prometheus(ctx, strings.TrimRight(base, "/"))
	if err != nil {
		return nil, fmt.Errorf("prometheus %s: %w", base, err)
	}
	return cells, nil
}

func (a *Asker) prometheus(ctx context.Context, base string) ([]Cell, error) {
	asked := a.now()
	by := map[string]*Cell{}
	cell := func(s sample) *Cell {
		name := s.Metric["instance"]
		if by[name] == nil {
			by[name] = &Cell{Name: name, Source: base, Asked: asked}
		}
		return by[name]
	}
	known := "last_over_time(" + metricAny + "[" + remembered + "])"
	for _, q := range []struct {
		query string
		take  func(s sample, value float64) error
	}{
		{known, func(s sample, _ float64) error {
			cell(s).Err = errors.New("it was scraped within a day, and is not now")
			return nil
		}},
		{metricAny, func(s sample, _ float64) error { cell(s).Err = nil; return nil }},
		{"up == 0 and on (job) group by (job) (" + known + ")", func(s sample, _ float64) error {
			cell(s).Err = errors.New("prometheus cannot scrape it")
			return nil
		}},
		{"rootstock_cell_repository_mounted == 0", func(s sample, _ float64) error {
			c := cell(s)
			c.Missing = append(c.Missing, Missing{s.Metric["repository"], "it is not mounted"})
			return nil
		}},
		{MetricContainers, func(s sample, value float64) error {
			n, err := s.count()
			n.Containers = int(value)
			c := cell(s)
			c.counts = append(c.counts, n)
			return err
		}},
		{MetricBehind, func(s sample, value float64) error {
			n, err := s.count()
			c := cell(s)
			for i := range c.counts {
				if c.counts[i].Ref == n.Ref && c.counts[i].Version == n.Version {
					c.counts[i].Behind = int(value)
				}
			}
			return err
		}},
	} {
		samples, err := a.query(ctx, base, q.query)
		if err != nil {
			return nil, err
		}
		for _, s := range samples {
			value, err := s.value()
			if err == nil {
				err = q.take(s, value)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	var all []Cell
	for _, c := range by {
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b Cell) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// sample is one of an instant vector.
type sample struct {
	Metric map[string]string  `json:"metric"`
	Value  [2]json.RawMessage `json:"value"`
}

func (s *sample) value() (float64, error) {
	var text string
	if err := json.Unmarshal(s.Value[1], &text); err != nil {
		return 0, fmt.Errorf("a sample without a value: %w", err)
	}
	return strconv.ParseFloat(text, 64)
}

func (s *sample) count() (Count, error) {
	n := Count{Version: s.Metric["version"]}
	name := s.Metric["name"]
	if name == Other {
		name = string(reference.Dirs) + "/" + Other
	}
	text := reference.Scheme + s.Metric["repository"] + "/" + name
	if channel := s.Metric["channel"]; channel != "" {
		text += ":" + channel
	}
	var err error
	n.Ref, err = reference.Parse(text)
	return n, err
}

func (a *Asker) query(ctx context.Context, base, query string) ([]sample, error) {
	body, err := a.do(ctx, http.MethodGet, base+"/api/v1/query?query="+url.QueryEscape(query), nil)
	if err != nil {
		return nil, err
	}
	defer body.Close() //nolint:errcheck // read before
	var answer struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		Data   struct {
			Type   string   `json:"resultType"`
			Result []sample `json:"result"`
		} `json:"data"`
	}
	if err := json.NewDecoder(io.LimitReader(body, MaxAnswer)).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Status != "success" || answer.Data.Type != "vector" {
		return nil, fmt.Errorf("query %s: %s %s %s", query, answer.Status, answer.Data.Type, answer.Error)
	}
	return answer.Data.Result, nil
}
