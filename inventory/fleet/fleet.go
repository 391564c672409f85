// Package fleet reads what cells say of their containers: which runs on which
// tree, since when. A cell's word comes as JSON from a file or over HTTP. What
// a cell says is believed, but bounded; a cell that says nothing is kept, with
// the reason, so that nobody counts it as having no containers.
package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

	// What follows a list of older cells does not say.

	// Catalog is what the container stands on where that is the tree of a
	// catalog rather than the image of Tree: algorithm and digest.
	Catalog string `json:"catalog,omitempty"`
	// Droplet is the digest of the layer that was put into the container on
	// top of the tree, sha256:<64 hex digits>.
	Droplet string `json:"droplet,omitempty"`
	App
}

// App is what Garden's API says of a container. All of it may be empty: no
// Garden is configured, it does not answer, or the container is none of Diego's.
type App struct {
	GUID  string `json:"app_guid,omitempty"`
	Space string `json:"space_guid,omitempty"`
	Org   string `json:"org_guid,omitempty"`
	// Workload is app, task or staging.
	Workload string `json:"workload,omitempty"`
	// Names are for people, and for cf's commands, which take no guids.
	AppName   string `json:"app_name,omitempty"`
	SpaceName string `json:"space_name,omitempty"`
	OrgName   string `json:"org_name,omitempty"`
}

// Lead is where a reference leads at a revision of its repository.
type Lead struct {
	Ref      reference.Reference `json:"ref"` // with its repository
	Version  string              `json:"version,omitempty"`
	Tree     string              `json:"tree,omitempty"` // empty if Gone
	Revision uint64              `json:"revision"`
	// Gone says that nothing is published under the reference any more.
	Gone bool `json:"gone,omitempty"`
	// While a channel's version is rolled out, cells differ. Ring is the ring
	// that the cell is in, empty for none, and Other the tree that cells on
	// the other side get.
	Ring  string `json:"ring,omitempty"`
	Other string `json:"other_tree,omitempty"`
}

// Missing is a repository of a cell whose containers the cell cannot tell.
type Missing struct {
	Repository string `json:"repository"`
	Reason     string `json:"reason"`
}

// Document is what a cell says of itself.
type Document struct {
	Cell string `json:"cell"`
	// ID and Labels are what the cell decides by which rings it is in.
	ID     string            `json:"id,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	Taken  time.Time         `json:"taken"` // by the cell's clock
	// Leads has every reference that a container was asked for by, and every
	// channel of their names.
	Leads   []Lead    `json:"leads"`
	Missing []Missing `json:"missing,omitempty"`
	// Garden is why containers may lack their apps.
	Garden     string      `json:"garden_error,omitempty"`
	Containers []Container `json:"containers"`
	// Lives says how containers fared, by reference and tree.
	Lives []Life `json:"lives,omitempty"`
}

// Life is how the containers of one reference fared on one tree since the cell's
// daemon came up.
type Life struct {
	Ref  reference.Reference `json:"ref"` // with its repository
	Tree string              `json:"tree"`
	// Ended are containers that are gone, other than by draining the cell.
	Ended int `json:"ended"`
	// Seconds that containers ran, together, also of those that run.
	Seconds int64 `json:"seconds"`
}

// Cell is one cell's answer. Err says why there is none.
type Cell struct {
	Name string
	// ID and Labels decide which rings of a rollout it is in. Cells of
	// releases before rings have no ID, and are in none.
	ID     string
	Labels map[string]string
	// Source is what was asked.
	Source     string
	Containers []Container
	Leads      []Lead
	Missing    []Missing
	Lives      []Life
	Garden     string
	// Asked is a time before which the answer was not made up: when the
	// cell was asked, or when the file was written.
	Asked time.Time
	Err   error

	// counts are what a cell that was not asked itself is known to run.
	counts []Count
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
	d := Document{Cell: from}
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
	return Cell{
		Name: d.Cell, ID: d.ID, Labels: d.Labels, Containers: d.Containers, Leads: d.Leads, Missing: d.Missing, Lives: d.Lives, Garden: d.Garden, Asked: d.Taken,
	}, nil
}
