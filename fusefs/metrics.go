package fusefs

import "github.com/prometheus/client_golang/prometheus"

// metrics are what a connection exports, each read from its [Stats].
var metrics = []struct {
	desc *prometheus.Desc
	of   func(*Stats) uint64
}{
	{
		prometheus.NewDesc("rootstock_fuse_requests_total", "Requests of the kernel.", nil, nil),
		func(s *Stats) uint64 { return s.Requests },
	},
	{
		prometheus.NewDesc("rootstock_fuse_waiting_requests_total", "Requests that could not be answered at once.", nil, nil),
		func(s *Stats) uint64 { return s.Waiting },
	},
	{
		prometheus.NewDesc("rootstock_fuse_interrupts_total", "Requests whose caller gave up.", nil, nil),
		func(s *Stats) uint64 { return s.Interrupts },
	},
	{
		prometheus.NewDesc("rootstock_fuse_abandoned_total", "Requests answered while their handler was still at work.", nil, nil),
		func(s *Stats) uint64 { return s.Abandoned },
	},
	{
		prometheus.NewDesc("rootstock_fuse_failures_total", "Requests answered with an I/O error.", nil, nil),
		func(s *Stats) uint64 { return s.Failures },
	},
	{
		prometheus.NewDesc("rootstock_fuse_panics_total", "Handlers that panicked, each an I/O error for one caller.", nil, nil),
		func(s *Stats) uint64 { return s.Panics },
	},
}

// Collector exports what connections count: stats returns it.
func Collector(stats func() Stats) prometheus.Collector { return collector{stats} }

type collector struct{ stats func() Stats }

func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range metrics {
		ch <- m.desc
	}
}

func (k collector) Collect(ch chan<- prometheus.Metric) {
	s := k.stats()
	for _, m := range metrics {
		ch <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, float64(m.of(&s)))
	}
}
