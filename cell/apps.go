package cell

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/inventory/fleet"
)

// Properties tells what Garden knows of a container; nothing of one that it
// does not know.
type Properties interface {
	Properties(ctx context.Context, handle string) (map[string]string, error)
}

const (
	// gardenTime bounds what a report waits for Garden.
	gardenTime = 5 * time.Second
	// gardenAtOnce bounds the requests to Garden at a time.
	gardenAtOnce = 4
)

// apps are the apps of containers, asked of Garden once for each: they never
// change while a container lives.
type apps struct {
	garden Properties // nil without one

	mu   sync.Mutex
	byID map[string]fleet.App
}

// of returns the apps of containers by handle, and why some may be missing.
func (a *apps) of(ctx context.Context, list []control.Container) (map[string]fleet.App, error) {
	if a.garden == nil {
		return nil, nil
	}
	known := make(map[string]fleet.App, len(list))
	var ask []string
	a.mu.Lock()
	for _, c := range list {
		if app, ok := a.byID[c.Handle]; ok {
			known[c.Handle] = app
		} else {
			ask = append(ask, c.Handle)
		}
	}
	a.mu.Unlock()
	var mu sync.Mutex
	ctx, cancel := context.WithTimeout(ctx, gardenTime)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(gardenAtOnce)
	for _, handle := range ask {
		g.Go(func() error {
			// The plugin pins a container's buildpacks as HANDLE+N.
			container, _, _ := strings.Cut(handle, "+")
			p, err := a.garden.Properties(ctx, container)
			if app := appOf(p); err == nil && app != (fleet.App{}) {
				mu.Lock()
				known[handle] = app
				mu.Unlock()
			}
			return err
		})
	}
	err := g.Wait()
	a.mu.Lock()
	a.byID = known // those of containers that are gone go with the old map
	a.mu.Unlock()
	return known, err
}

// process returns what type of process a container runs, such as web or, where
// that is not known, app or task; "" if Garden does not say.
func (a *apps) process(ctx context.Context, handle string) string {
	if a.garden == nil {
		return ""
	}
	container, _, _ := strings.Cut(handle, "+")
	p, err := a.garden.Properties(ctx, container)
	if err != nil {
		return ""
	}
	var log struct {
		Tags struct {
			ProcessType string `json:"process_type"`
		} `json:"tags"`
	}
	_ = json.Unmarshal([]byte(p["log_config"]), &log) // as in appOf
	return cmp.Or(log.Tags.ProcessType, p["network.container_workload"])
}

// maxName bounds what is believed of a property, in bytes.
const maxName = 512

// appOf reads the properties that Diego sets: executor puts the network
// properties of Cloud Controller under "network.", and what is to tag the logs
// into log_config.
func appOf(p map[string]string) fleet.App {
	var log struct {
		Tags map[string]string `json:"tags"`
	}
	// It is there for other purposes: without it, or with another form of
	// it, the names are not known.
	_ = json.Unmarshal([]byte(p["log_config"]), &log)
	short := func(s string) string {
		if len(s) > maxName {
			return ""
		}
		return s
	}
	return fleet.App{
		GUID: short(p["network.app_id"]), Space: short(p["network.space_id"]), Org: short(p["network.org_id"]),
		Workload: short(p["network.container_workload"]),
		AppName:  short(log.Tags["app_name"]), SpaceName: short(log.Tags["space_name"]), OrgName: short(log.Tags["organization_name"]),
	}
}
