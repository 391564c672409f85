package client

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descRevision = prometheus.NewDesc("rootstock_repository_revision",
		"Revision that is shown.", nil, nil)
	descOffline = prometheus.NewDesc("rootstock_repository_offline",
		"1 while the servers give no valid manifest and the last verified revision is shown.", nil, nil)
	descVerified = prometheus.NewDesc("rootstock_repository_verified_timestamp_seconds",
		"When the servers last gave a manifest that verified, or 0.", nil, nil)
	descWhitelist = prometheus.NewDesc("rootstock_repository_whitelist_end_timestamp_seconds",
		"When the whitelist runs out, or 0 where no signature is asked for.", nil, nil)
	descPublished = prometheus.NewDesc("rootstock_repository_published_timestamp_seconds",
		"When the newest manifest was published, or 0 where unknown.", nil, nil)
	descCatalogs = prometheus.NewDesc("rootstock_repository_catalogs",
		"Catalogs whose indexes are mapped.", nil, nil)
	descOpens = prometheus.NewDesc("rootstock_repository_opens_total",
		"Contents opened.", nil, nil)
	descAhead = prometheus.NewDesc("rootstock_repository_ahead_total",
		"Objects fetched before they were asked for.", nil, nil)
	descErrors = prometheus.NewDesc("rootstock_repository_io_errors_total",
		"Failures of the repository, its servers or its cache that a reader could see.", nil, nil)
	descRefused = prometheus.NewDesc("rootstock_repository_rejected_total",
		"Manifests that were refused: wrong signature or name, expired whitelist, older revision.", nil, nil)
)

// Collector exports the repository's state.
func (r *Repository) Collector() prometheus.Collector { return collector{r} }

type collector struct{ r *Repository }

func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descRevision, descOffline, descVerified, descWhitelist, descPublished, descCatalogs, descOpens, descAhead, descErrors, descRefused,
	} {
		ch <- d
	}
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	s := c.r.Status()
	offline := 0.0
	if s.Offline {
		offline = 1
	}
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	gauge(descRevision, float64(s.Revision))
	gauge(descOffline, offline)
	gauge(descVerified, unixSeconds(s.Verified))
	gauge(descWhitelist, unixSeconds(s.WhitelistEnd))
	gauge(descPublished, unixSeconds(s.Published))
	gauge(descCatalogs, float64(s.Catalogs))
	for d, n := range map[*prometheus.Desc]int64{descOpens: s.Opens, descAhead: s.Ahead, descErrors: s.IOErrors, descRefused: s.Rejected} {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
	}
}

func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}
