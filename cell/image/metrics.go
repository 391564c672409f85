package image

import "github.com/prometheus/client_golang/prometheus"

var (
	descTrees = prometheus.NewDesc("rootstock_image_trees",
		"Trees held by containers as images.", nil, nil)
	descRequests = prometheus.NewDesc("rootstock_image_requests_total",
		"Requests of the kernel for contents that were not cached.", nil, nil)
	descFailures = prometheus.NewDesc("rootstock_image_failures_total",
		"Requests for contents that were answered with an I/O error.", nil, nil)
)

// Collector exports what the tier counts.
func (t *Tier) Collector() prometheus.Collector { return collector{t} }

type collector struct{ t *Tier }

func (collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- descTrees
	ch <- descRequests
	ch <- descFailures
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	s := c.t.Stats()
	ch <- prometheus.MustNewConstMetric(descTrees, prometheus.GaugeValue, float64(s.Trees))
	ch <- prometheus.MustNewConstMetric(descRequests, prometheus.CounterValue, float64(s.Requests))
	ch <- prometheus.MustNewConstMetric(descFailures, prometheus.CounterValue, float64(s.Failures))
}
