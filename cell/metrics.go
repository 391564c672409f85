package cell

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/fusefs"
	"github.com/rootstock-cf/rootstock/inventory/fleet"
)

var (
	descMounted = prometheus.NewDesc("rootstock_cell_repository_mounted",
		"1 if the repository is mounted, 0 if that is being tried again.", []string{"repository"}, nil)
	descContainers = prometheus.NewDesc("rootstock_cell_containers",
		"Containers that stand on trees of the repository.", []string{"repository"}, nil)
	descLowers = prometheus.NewDesc("rootstock_cell_lowers_pending",
		"Trees being made ready for containers.", nil, nil)
	descDraining = prometheus.NewDesc("rootstock_cell_draining",
		"1 while new containers are refused.", nil, nil)
	descScrubEnd = prometheus.NewDesc("rootstock_cell_scrub_timestamp_seconds",
		"When the last background scrub of the whole cache ended, or 0.", nil, nil)
	descGoroutines = prometheus.NewDesc("rootstock_cell_goroutines",
		"Goroutines of the daemon; a number that only grows is a leak.", nil, nil)
)

// Of what a cell runs. Their names are those that rootstock fleet asks
// Prometheus for.
var (
	versionLabels = []string{"repository", "name", "version", "channel"}
	descVersions  = prometheus.NewDesc(fleet.MetricContainers,
		"Containers on a version, by the channel they were asked for by, which is empty if by none.", versionLabels, nil)
	descBehind = prometheus.NewDesc(fleet.MetricBehind,
		"Of these, those that would get another tree if they were made now.", versionLabels, nil)
)

// maxVersions bounds the versions that are counted one by one. What is over it
// counts as other.
const maxVersions = 64

// Describe implements prometheus.Collector.
func (c *Cell) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descMounted, descContainers, descLowers, descDraining, descScrubEnd, descVersions, descBehind, descGoroutines} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Cell) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	draining := 0.0
	if c.draining.Load() {
		draining = 1
	}
	gauge(descDraining, draining)
	gauge(descGoroutines, float64(runtime.NumGoroutine()))
	gauge(descLowers, float64(c.lowers.Load()))
	gauge(descScrubEnd, float64(c.scrubbed.Load()))
	up := map[string]bool{}
	for _, m := range c.mounted() {
		up[m.o.Name] = true
		gauge(descMounted, 1, m.o.Name)
		gauge(descContainers, float64(len(m.pins.list())), m.o.Name)
	}
	c.collectVersions(gauge)
	for _, r := range c.o.Repositories {
		if !up[r.Name] {
			gauge(descMounted, 0, r.Name)
		}
	}
}

// leadTime bounds what a scrape waits for catalogs that have to be fetched.
const leadTime = 2 * time.Second

// collectVersions counts containers by what they stand on.
func (c *Cell) collectVersions(gauge func(d *prometheus.Desc, v float64, labels ...string)) {
	ctx, cancel := context.WithTimeout(context.Background(), leadTime)
	defer cancel()
	for _, m := range c.mounted() {
		list := m.pins.list()
		self := fleet.Cell{Leads: m.leadsOf(ctx, list)}
		known := fleet.LeadsOf([]fleet.Cell{self}).Of(&self)
		type count struct{ all, behind float64 }
		by := map[[3]string]*count{}
		for i := range list {
			one := fleet.Container{Ref: m.whole(list[i].Ref), Tree: list[i].Tree}
			key := versionOf(&list[i])
			if by[key] == nil && len(by) >= maxVersions {
				key = [3]string{fleet.Other, "", ""}
			}
			if by[key] == nil {
				by[key] = &count{}
			}
			by[key].all++
			if known.Behind(&one) {
				by[key].behind++
			}
		}
		for key, n := range by {
			gauge(descVersions, n.all, m.o.Name, key[0], key[1], key[2])
			gauge(descBehind, n.behind, m.o.Name, key[0], key[1], key[2])
		}
	}
}

// versionOf is what a container counts as: name, version and channel.
func versionOf(c *control.Container) [3]string {
	if c.Ref.Path != "" {
		return [3]string{fleet.Other, "", ""}
	}
	return [3]string{string(c.Ref.Kind) + "/" + c.Ref.Name, c.Version, c.Ref.Channel}
}

// gatherer has the cell's own metrics, the cache's,
// and for each repository that is mounted now those of its client, its fetcher
// and its mount, labelled with its name.
func (c *Cell) gatherer() (prometheus.Gatherer, error) {
	all := prometheus.NewRegistry()
	if err := errors.Join(all.Register(c), all.Register(c.cache.Collector())); err != nil {
		return nil, err
	}
	if c.images != nil {
		if err := all.Register(c.images.Collector()); err != nil {
			return nil, err
		}
	}
	for _, m := range c.mounted() {
		one := prometheus.WrapRegistererWith(prometheus.Labels{"repository": m.o.Name}, all)
		for _, k := range []prometheus.Collector{m.repo.Collector(), m.stack.Collector(), fusefs.Collector(m.requests)} {
			if err := one.Register(k); err != nil {
				return nil, fmt.Errorf("metrics of %s: %w", m.o.Name, err)
			}
		}
	}
	return all, nil
}

// Handler serves /metrics, /healthz (the daemon answers) and /readyz (every
// repository is mounted and containers are taken).
func (c *Cell) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		g, err := c.gatherer()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		promhttp.HandlerFor(g, promhttp.HandlerOpts{MaxRequestsInFlight: 4}).ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if reasons := c.unready(); len(reasons) > 0 {
			http.Error(w, strings.Join(reasons, "\n"), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

// unready says why new containers may not find what they need.
func (c *Cell) unready() (reasons []string) {
	if c.draining.Load() {
		reasons = append(reasons, "draining")
	}
	c.mu.RLock()
	for name, err := range c.failed {
		reasons = append(reasons, fmt.Sprintf("%s is not mounted: %v", name, err))
	}
	c.mu.RUnlock()
	for _, m := range c.mounted() {
		if err := m.current(); err != nil {
			reasons = append(reasons, err.Error())
		}
	}
	return reasons
}

// CheckLoopback refuses an address that others than this machine could reach:
// metrics name repositories and say how busy a cell is.
func CheckLoopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if host == "localhost" {
		return nil
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("%q is not a loopback address; use 127.0.0.1 or [::1]", host)
	}
	return nil
}

// listenMetrics takes the port and returns what serves it until ctx is done.
func (c *Cell) listenMetrics(ctx context.Context) (serve func() error, err error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", c.o.Metrics)
	if err != nil {
		return nil, fmt.Errorf("metrics at %s: %w", c.o.Metrics, err)
	}
	c.o.Log.Info("metrics", "address", l.Addr().String())
	server := &http.Server{
		Handler: c.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	return func() error {
		stop := context.AfterFunc(ctx, func() { server.Close() }) //nolint:errcheck // nobody waits for a scrape
		defer stop()
		if err := server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("metrics at %s: %w", c.o.Metrics, err)
		}
		return nil
	}, nil
}
