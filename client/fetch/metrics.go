package fetch

import "github.com/prometheus/client_golang/prometheus"

var (
	descRequests = prometheus.NewDesc("rootstock_fetch_requests_total",
		"Requests sent to servers and proxies.", nil, nil)
	descFailures = prometheus.NewDesc("rootstock_fetch_failures_total",
		"Requests that brought nothing usable, by what was wrong.", []string{"outcome"}, nil)
	descHedges = prometheus.NewDesc("rootstock_fetch_hedges_total",
		"Requests sent to a second server because the first was slow.", nil, nil)
	descReceived = prometheus.NewDesc("rootstock_fetch_received_bytes_total",
		"Bytes of bodies received.", nil, nil)
	descAnswers = prometheus.NewDesc("rootstock_fetch_first_byte_seconds",
		"Time from a request to the first byte of its answer.", nil, nil)
	descServers = prometheus.NewDesc("rootstock_fetch_servers_resting",
		"Servers that failed and are tried last for a while.", nil, nil)
	descProxies = prometheus.NewDesc("rootstock_fetch_proxies_resting",
		"Proxies that failed and are tried last for a while.", nil, nil)
)

// Collector exports what the stack counts.
func (s *Stack) Collector() prometheus.Collector { return collector{s} }

type collector struct{ s *Stack }

func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descRequests, descFailures, descHedges, descReceived, descAnswers, descServers, descProxies} {
		ch <- d
	}
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	t := c.s.counters.Totals()
	ch <- prometheus.MustNewConstMetric(descRequests, prometheus.CounterValue, float64(t.Requests))
	ch <- prometheus.MustNewConstMetric(descHedges, prometheus.CounterValue, float64(c.s.servers.hedges.Load()))
	ch <- prometheus.MustNewConstMetric(descReceived, prometheus.CounterValue, float64(t.Bytes))
	ch <- prometheus.MustNewConstSummary(descAnswers, uint64(max(0, t.Answers)), t.Waited.Seconds(), nil)
	for outcome, n := range t.Outcomes {
		ch <- prometheus.MustNewConstMetric(descFailures, prometheus.CounterValue, float64(n), outcome)
	}
	servers, proxies := c.s.States()
	ch <- prometheus.MustNewConstMetric(descServers, prometheus.GaugeValue, resting(servers))
	ch <- prometheus.MustNewConstMetric(descProxies, prometheus.GaugeValue, resting(proxies))
}

func resting(list []State) (n float64) {
	for _, s := range list {
		if !s.Until.IsZero() {
			n++
		}
	}
	return n
}
