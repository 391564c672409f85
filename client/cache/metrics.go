package cache

import "github.com/prometheus/client_golang/prometheus"

// metrics are what a cache exports, each read from its [Stats].
var metrics = []struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(*Stats) int64
}{
	{
		prometheus.NewDesc("rootstock_cache_quota_bytes", "Bytes the cache may take; 0 for no bound but the disk.", nil, nil),
		prometheus.GaugeValue, func(s *Stats) int64 { return s.Quota },
	},
	{
		prometheus.NewDesc("rootstock_cache_used_bytes", "Bytes of all cached contents.", nil, nil),
		prometheus.GaugeValue, func(s *Stats) int64 { return s.Bytes },
	},
	{
		prometheus.NewDesc("rootstock_cache_pinned_bytes", "Bytes of cached contents that are evicted last.", nil, nil),
		prometheus.GaugeValue, func(s *Stats) int64 { return s.Pinned },
	},
	{
		prometheus.NewDesc("rootstock_cache_contents", "Contents in the cache.", nil, nil),
		prometheus.GaugeValue, func(s *Stats) int64 { return int64(s.Contents) },
	},
	{
		prometheus.NewDesc("rootstock_cache_hits_total", "Contents asked for that were in the cache.", nil, nil),
		prometheus.CounterValue, func(s *Stats) int64 { return s.Hits },
	},
	{
		prometheus.NewDesc("rootstock_cache_misses_total", "Contents asked for that were not in the cache.", nil, nil),
		prometheus.CounterValue, func(s *Stats) int64 { return s.Misses },
	},
	{
		prometheus.NewDesc("rootstock_cache_evictions_total", "Contents evicted.", nil, nil),
		prometheus.CounterValue, func(s *Stats) int64 { return s.Evictions },
	},
	{
		prometheus.NewDesc("rootstock_cache_damaged_total", "Contents found changed on disk and removed.", nil, nil),
		prometheus.CounterValue, func(s *Stats) int64 { return s.Discarded },
	},
	{
		prometheus.NewDesc("rootstock_cache_refused_total", "Contents not stored for want of room or by disk errors.", nil, nil),
		prometheus.CounterValue, func(s *Stats) int64 { return s.Refused },
	},
	{
		prometheus.NewDesc("rootstock_cache_scrubbed_bytes_total", "Bytes read by scrubs.", nil, nil),
		prometheus.CounterValue, func(s *Stats) int64 { return s.Scrubbed },
	},
}

// Collector exports what the cache counts.
func (c *Cache) Collector() prometheus.Collector { return collector{c} }

type collector struct{ c *Cache }

func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range metrics {
		ch <- m.desc
	}
}

func (k collector) Collect(ch chan<- prometheus.Metric) {
	s := k.c.Stats()
	for _, m := range metrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, float64(m.of(&s)))
	}
}
