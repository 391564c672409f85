package serve

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/store"
)

// Metrics is what a server counts. Labels are repositories that are served here
// and status codes, nothing a client could make up.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	seconds  prometheus.Histogram
	open     prometheus.Gauge
}

// NewMetrics makes the metrics of a server.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rootstock_serve_requests_total", Help: "Requests answered, by repository and HTTP status.",
		}, []string{"repository", "code"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rootstock_serve_sent_bytes_total", Help: "Bytes of response bodies, by repository.",
		}, []string{"repository"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "rootstock_serve_request_seconds", Help: "Time from a request's header to the end of its response.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 9),
		}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rootstock_serve_requests_open", Help: "Requests under way.",
		}),
	}
	m.registry.MustRegister(m.requests, m.bytes, m.seconds, m.open)
	return m
}

func (m *Metrics) request(repository string, s *seen, took time.Duration) {
	m.requests.WithLabelValues(repository, strconv.Itoa(s.code())).Inc()
	m.bytes.WithLabelValues(repository).Add(float64(s.bytes))
	m.seconds.Observe(took.Seconds())
}

// handler shows the metrics, with what the repositories are at the moment.
func (m *Metrics) handler(repositories map[string]store.Getter) http.Handler {
	all := prometheus.NewRegistry()
	all.MustRegister(&heads{repositories})
	return promhttp.HandlerFor(prometheus.Gatherers{m.registry, all}, promhttp.HandlerOpts{})
}

// heads reads the repositories' root files when it is asked.
type heads struct{ repositories map[string]store.Getter }

var (
	upDesc       = prometheus.NewDesc("rootstock_serve_repository_up", "1 while the repository's manifest and whitelist can be read.", []string{"repository"}, nil)
	revisionDesc = prometheus.NewDesc("rootstock_serve_repository_revision", "Revision that is served.", []string{"repository"}, nil)
	publishDesc  = prometheus.NewDesc("rootstock_serve_repository_published_timestamp_seconds", "When that revision was published.", []string{"repository"}, nil)
	expiryDesc   = prometheus.NewDesc("rootstock_serve_whitelist_expiry_timestamp_seconds", "When the whitelist runs out; clients refuse the repository from then on.", []string{"repository"}, nil)
)

// collectTime bounds the reading of all root files.
const collectTime = 5 * time.Second

// Describe implements prometheus.Collector.
func (h *heads) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{upDesc, revisionDesc, publishDesc, expiryDesc} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (h *heads) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), collectTime)
	defer cancel()
	for fqrn, from := range h.repositories {
		gauge := func(d *prometheus.Desc, v float64) {
			to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, fqrn)
		}
		m, list, err := readHead(ctx, from)
		if err != nil {
			gauge(upDesc, 0)
			continue
		}
		gauge(upDesc, 1)
		gauge(revisionDesc, float64(m.Revision))
		gauge(publishDesc, float64(m.Published))
		gauge(expiryDesc, float64(list.End().Unix()))
	}
}

// readHead reads what a repository says it is. Signatures are for clients.
func readHead(ctx context.Context, from store.Getter) (m manifest.Manifest, list manifest.Whitelist, err error) {
	body, err := readSigned(ctx, from, manifest.FileName)
	if err == nil {
		m, err = manifest.Parse(body)
	}
	if err != nil {
		return m, list, err
	}
	if body, err = readSigned(ctx, from, manifest.WhitelistName); err == nil {
		list, err = manifest.ParseWhitelist(body)
	}
	return m, list, err
}

func readSigned(ctx context.Context, from store.Getter, name string) ([]byte, error) {
	r, err := from.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, manifest.MaxSize))
	if err != nil {
		return nil, err
	}
	env, err := manifest.Open(raw)
	return env.Body, err
}

// WhitelistEnd is the moment from which on clients refuse a repository.
func WhitelistEnd(ctx context.Context, from store.Getter) (time.Time, error) {
	body, err := readSigned(ctx, from, manifest.WhitelistName)
	if err != nil {
		return time.Time{}, err
	}
	list, err := manifest.ParseWhitelist(body)
	return list.End(), err
}
