package fault_test

import (
	"context"
	"net"
	"testing"
	"time"
)

// wireFaults are those of a network between the cell and what it reads from,
// which is in a network namespace of its own.
func wireFaults() []fault {
	const (
		slow     = `rootstock_fetch_failures_total{outcome="timeout"}`
		received = "rootstock_fetch_received_bytes_total"
	)
	return []fault{
		{"wire with 20 ms of delay and 2 % of loss, through squid to nginx", "reads, only slower", received, func(t *testing.T, f *fixture) {
			l := newLink(t)
			f.servers(l.nginx(f))
			f.o.Repositories[0].Proxies = l.squid(t)
			f.patient()
			l.delay.Store(int64(20 * time.Millisecond))
			l.loss.Store(20)
			f.start()
			f.good("delay and loss")
		}},
		{"wire of 150 kB per second", "reads, only slower: what is slow but moves is no failure", received, func(t *testing.T, f *fixture) {
			l := newLink(t)
			f.servers(l.serve(f))
			f.patient()
			l.rate.Store(150_000)
			f.start()
			f.good("slow wire")
			if n := f.metric("rootstock_fetch_servers_resting"); n != 0 {
				t.Error("the server is thought dead")
			}
		}},
		{"wire to the server is cut", "read from the next server", slow, func(t *testing.T, f *fixture) {
			l := newLink(t)
			f.servers(l.serve(f), f.mirror())
			f.start()
			lookInto(t, f)
			l.cut.Store(true)
			f.good("wire cut")
		}},
		{"wire to the only server is cut, and mended", "EIO in bounded time, then the content", slow, func(t *testing.T, f *fixture) {
			l := newLink(t)
			f.servers(l.serve(f))
			f.start()
			lookInto(t, f)
			l.cut.Store(true)
			if _, err := f.read("/dir/00"); !isIO(err) {
				t.Errorf("wire cut: %v", err)
			}
			l.cut.Store(false)
			f.good("mended")
		}},
		{"wire flaps: cut for 0.2 s in every 0.5 s", "right bytes or EIO; right when it is mended", received, func(t *testing.T, f *fixture) {
			l := newLink(t)
			f.servers(l.serve(f))
			f.start()
			lookInto(t, f)
			ctx, end := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for cut := true; ctx.Err() == nil; cut = !cut {
					l.cut.Store(cut)
					pause := 300 * time.Millisecond
					if cut {
						pause = 200 * time.Millisecond
					}
					select {
					case <-time.After(pause):
					case <-ctx.Done():
					}
				}
				l.cut.Store(false)
			}()
			f.neverWrong("flapping")
			end()
			<-ended
			f.good("mended")
		}},
		{"wire to the proxy is cut", "the next group of proxies is used, and the dead one rests", slow, func(t *testing.T, f *fixture) {
			l := newLink(t)
			f.servers(l.serveAt(f, l.here)) // squid goes over the wire and back
			f.o.Repositories[0].Proxies = l.squid(t) + ";DIRECT"
			f.start()
			lookInto(t, f)
			l.cut.Store(true)
			f.good("wire to the proxy cut")
			if n := f.metric("rootstock_fetch_proxies_resting"); n != 1 {
				t.Errorf("%v proxies rest", n)
			}
		}},
		{"server turns slow (300 ms), with hedging", "read from the next server after the time that is usual for the first", "rootstock_fetch_hedges_total", func(t *testing.T, f *fixture) {
			l := newLink(t)
			f.servers(l.serve(f), f.mirror())
			f.patient()
			f.o.Repositories[0].Network.Hedge = true
			f.start()
			for n := range 10 {
				if _, err := f.read("/dir/0" + string(rune('0'+n))); err != nil {
					t.Fatal(err)
				}
			}
			l.delay.Store(int64(150 * time.Millisecond))
			f.good("first server slow")
			if n := f.metric("rootstock_fetch_servers_resting"); n != 0 {
				t.Error("a slow server counts as failed")
			}
		}},
		{"name servers gone", "read from the next server; names are asked for again when they are back", slow, func(t *testing.T, f *fixture) {
			l := newLink(t)
			url := l.serve(f)
			names := newLink(t)
			host, port, err := net.SplitHostPort(url[len("http://"):])
			if err != nil {
				t.Fatal(err)
			}
			f.o.Repositories[0].Network.Resolver = names.resolver(t, host)
			f.servers("http://stratum1.test:"+port, f.mirror())
			names.cut.Store(true)
			f.start()
			f.good("no names")
			names.cut.Store(false)
			before := f.metric(`rootstock_fetch_requests_total`)
			f.clock.add(time.Hour) // the rest of the first server is over
			if e := f.refresh(); e != "" {
				t.Errorf("names are back: %s", e)
			}
			if f.metric(`rootstock_fetch_requests_total`) == before || f.metric("rootstock_fetch_servers_resting") != 0 {
				t.Error("the first server was not asked again")
			}
		}},
	}
}

// patient gives requests time for what is slow on purpose.
func (f *fixture) patient() {
	n := &f.o.Repositories[0].Network
	n.Timeout, n.TimeoutDirect = 5*time.Second, 5*time.Second
}
