package image

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// exposureTime bounds what a scrape waits for trees to be counted.
const exposureTime = 2 * time.Second

var (
	descTrees = prometheus.NewDesc("rootstock_image_trees",
		"Trees held by containers as images.", nil, nil)
	descRequests = prometheus.NewDesc("rootstock_image_requests_total",
		"Requests of the kernel for contents that were not cached.", nil, nil)
	descFailures = prometheus.NewDesc("rootstock_image_failures_total",
		"Requests for contents that were answered with an I/O error.", nil, nil)
	descExposure = prometheus.NewDesc("rootstock_image_exposure_bytes",
		"Bytes of trees in use that are not in the cache.", nil, nil)
	descBound = prometheus.NewDesc("rootstock_image_bound_contents",
		"Contents opened through the objects mount: at most that many files of running containers depend on it.", nil, nil)
)

// Collector exports what the tier counts.
func (t *Tier) Collector() prometheus.Collector { return collector{t} }

type collector struct{ t *Tier }

func (collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- descTrees
	ch <- descRequests
	ch <- descFailures
	ch <- descExposure
	ch <- descBound
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	s := c.t.Stats()
	ch <- prometheus.MustNewConstMetric(descTrees, prometheus.GaugeValue, float64(s.Trees))
	ch <- prometheus.MustNewConstMetric(descRequests, prometheus.CounterValue, float64(s.Requests))
	ch <- prometheus.MustNewConstMetric(descFailures, prometheus.CounterValue, float64(s.Failures))
	ctx, cancel := context.WithTimeout(context.Background(), exposureTime)
	defer cancel()
	if e, err := c.t.Exposure(ctx); err == nil {
		ch <- prometheus.MustNewConstMetric(descExposure, prometheus.GaugeValue, float64(e.Bytes))
		ch <- prometheus.MustNewConstMetric(descBound, prometheus.GaugeValue, float64(e.Bound))
	}
}
