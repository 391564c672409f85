package cell

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/client"
	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/inventory/fleet"
	"github.com/rootstock-cf/rootstock/reference"
)

// The calls that a cell offers its operators beside those of package control.
const (
	CallRefresh = "refresh"
	CallEvict   = "evict"
	CallPin     = "pin"
	CallUnpin   = "unpin"
	CallPins    = "pins"
	CallWarm    = "warm"
	CallScrub   = "scrub"
	CallNetwork = "network"
	CallExplain = "explain"
	CallDrain   = "drain"
	CallReport  = "report"
	CallDisk    = "disk"
	// CallProfiles answers a profile.Document as each line of progress.
	CallProfiles = "profiles"
	CallDroplet  = "droplet"
)

func (c *Cell) calls() map[string]control.Call {
	return map[string]control.Call{
		CallRefresh:  control.Handle(func(ctx context.Context, p Names) ([]Refreshed, error) { return c.Refresh(ctx, p.Names...) }),
		CallEvict:    control.Handle(c.evict),
		CallPin:      control.Handle(c.pin),
		CallUnpin:    control.Handle(c.unpin),
		CallPins:     control.Handle(func(context.Context, struct{}) ([]FixedPin, error) { return c.fixed.list(), nil }),
		CallWarm:     control.HandleLong(c.warm),
		CallScrub:    control.HandleLong(c.scrub),
		CallNetwork:  control.Handle(c.network),
		CallExplain:  control.Handle(c.explain),
		CallDrain:    control.HandleLong(c.drain),
		CallRestart:  control.Handle(c.startAgain),
		CallReport:   control.Handle(func(ctx context.Context, _ struct{}) (fleet.Document, error) { return c.Report(ctx) }),
		CallDisk:     control.Handle(c.disk),
		CallProfiles: control.HandleLong(c.recorded),
		CallDroplet:  control.Handle(c.dropletFile),
	}
}

// Names are parameters that select repositories; none selects all.
type Names struct {
	Names []string `json:"names,omitempty"`
}

// Paths are parameters that name places: a path below a mountpoint, a reference,
// or a path inside the only repository.
type Paths struct {
	Paths []string `json:"paths"`
}

// Evict is the parameter of CallEvict and, as Freed, its result.
type Evict struct {
	Bytes int64 `json:"bytes"`
}

func (c *Cell) evict(_ context.Context, p Evict) (Evict, error) {
	if p.Bytes < 0 {
		return Evict{}, fmt.Errorf("%w: %d bytes to evict", control.ErrInvalid, p.Bytes)
	}
	return Evict{Bytes: c.cache.Evict(p.Bytes)}, nil
}

// Way is a server or proxy as CallNetwork reports it.
type Way struct {
	Repository string `json:"repository"`
	Name       string `json:"name"`
	Group      int    `json:"group"` // of proxies, from 0
	Used       bool   `json:"used"`  // the next request would go there
	// RestsUntil is set for one that failed and is tried last until then.
	RestsUntil *time.Time `json:"rests_until,omitempty"`
	// Latency is the moving mean of seconds to the first byte of an answer; 0
	// while there was none, and of proxies.
	Latency float64 `json:"latency_seconds,omitempty"`
}

// Ways is the result of CallNetwork.
type Ways struct {
	Servers []Way `json:"servers"`
	Proxies []Way `json:"proxies"`
}

func (c *Cell) network(context.Context, struct{}) (Ways, error) {
	var w Ways
	for _, m := range c.mounted() {
		now := m.stack.Network()
		servers, proxies := m.stack.States()
		way := func(s fetch.State, current string) Way {
			return Way{m.o.Name, s.Name, s.Group, s.Name == current, known(s.Until), s.Latency.Seconds()}
		}
		for _, s := range servers {
			w.Servers = append(w.Servers, way(s, now.Server))
		}
		for _, p := range proxies {
			w.Proxies = append(w.Proxies, way(p, now.Proxy))
		}
	}
	return w, nil
}

// Explained is the result of CallExplain: where a path's content comes from.
type Explained struct {
	Repository  string            `json:"repository"`
	Path        string            `json:"path"` // in the repository, links resolved
	Type        string            `json:"type"`
	Bytes       int64             `json:"bytes"`
	Tree        string            `json:"tree,omitempty"` // id of the published tree it lies in
	Catalog     string            `json:"catalog"`
	CatalogAt   string            `json:"catalog_at"`
	Compression string            `json:"compression,omitempty"`
	Objects     []ExplainedObject `json:"objects,omitempty"`
	Server      string            `json:"server"`
	Containers  []string          `json:"containers,omitempty"` // handles that stand on the tree
}

// ExplainedObject is one stored object of a file.
type ExplainedObject struct {
	Hash   string `json:"hash"`
	Path   string `json:"path"` // below the server's URL
	Offset int64  `json:"offset"`
	Bytes  int64  `json:"bytes"`
	Cached bool   `json:"cached"`
}

// maxObjects keeps an explanation within an answer of the socket.
const maxObjects = 2000

func (c *Cell) explain(ctx context.Context, p Paths) ([]Explained, error) {
	var list []Explained
	for _, text := range p.Paths {
		at, err := c.locate(ctx, text)
		if err != nil {
			return nil, err
		}
		e, err := at.m.repo.Explain(ctx, at.node)
		if err != nil {
			return nil, kind(fmt.Errorf("explain %s: %w", text, err))
		}
		list = append(list, at.explained(ctx, e))
	}
	return list, nil
}

func (at place) explained(ctx context.Context, e client.Explanation) Explained {
	x := Explained{
		Repository: at.m.o.Name, Path: at.path, Type: typeName(e.Mode), Bytes: e.Size,
		Catalog: e.Catalog.String(), CatalogAt: path.Clean("/" + e.CatalogAt), Server: at.m.stack.Network().Server,
	}
	if tree, _, err := at.m.holder(ctx, at.path); err == nil {
		if id, err := at.m.repo.XAttr(ctx, tree.Node, attrTree); err == nil {
			x.Tree = string(id)
		}
		x.Containers = at.m.pins.on(x.Tree, tree.Catalog)
	}
	if len(e.Objects) > 0 {
		x.Compression = e.Compression.String()
	}
	for _, o := range e.Objects[:min(len(e.Objects), maxObjects)] {
		x.Objects = append(x.Objects, ExplainedObject{o.Hash.String(), o.Path, o.Offset, o.Size, o.Cached})
	}
	return x
}

func typeName(mode uint32) string {
	switch mode & modeType {
	case modeDir:
		return "directory"
	case modeSymlink:
		return "symbolic link"
	case modeRegular:
		return "file"
	}
	return "special file"
}

// place is where a text leads.
type place struct {
	m    *mounted
	node view.Node
	path string // in the repository, links resolved
}

// locate understands what operators write: a reference with or without its
// repository, a path below a mountpoint, or a path in the only repository.
func (c *Cell) locate(ctx context.Context, text string) (place, error) {
	if text == "" {
		return place{}, fmt.Errorf("%w: an empty path", control.ErrInvalid)
	}
	if strings.HasPrefix(text, "/") {
		for _, m := range c.mounted() {
			if rest, ok := strings.CutPrefix(path.Clean(text), m.conn.Mountpoint()); ok && (rest == "" || rest[0] == '/') {
				return m.locate(ctx, rest)
			}
		}
		m, err := c.repository("")
		if errors.Is(err, control.ErrInvalid) {
			err = fmt.Errorf("%w: %s lies below no mountpoint of this cell", control.ErrInvalid, text)
		}
		if err != nil {
			return place{}, err
		}
		return m.locate(ctx, text)
	}
	ref, err := reference.Parse(text)
	if err != nil {
		return place{}, fmt.Errorf("%w: %w", control.ErrInvalid, err)
	}
	m, err := c.repository(ref.Repository)
	if err != nil {
		return place{}, err
	}
	if ref.Path != "" {
		return m.locate(ctx, ref.Path)
	}
	found, err := m.resolver().resolve(ctx, ref)
	if err != nil {
		return place{}, kind(err)
	}
	return place{m, found.node, found.path}, nil
}

func (m *mounted) locate(ctx context.Context, name string) (place, error) {
	found, err := m.resolver().walk(ctx, name)
	if err != nil {
		return place{}, kind(err)
	}
	return place{m, found.node, found.path}, nil
}
