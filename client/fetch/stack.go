package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"strings"
	"time"
)

// Config is the whole stack as an operator describes it. Zero values are
// defaults, those of stock CernVM-FS where it has one (CVMFS-FORMAT 6.2).
type Config struct {
	Servers         []string // base URLs in order of preference; @fqrn@ is already replaced
	Proxies         string   // "a|b;c;DIRECT"; empty is DIRECT
	FallbackProxies string

	Timeout         time.Duration // through a proxy; 5 s
	TimeoutDirect   time.Duration // 10 s
	LowSpeed        int64         // bytes per second; 1024
	Retries         int           // 1; negative for none
	BackoffInit     time.Duration // 100 ms
	BackoffMax      time.Duration // 10 s
	ProxyReset      time.Duration // 300 s
	ServerReset     time.Duration // 1800 s
	Concurrency     int           // requests at a time; 32
	Bandwidth       *Bandwidth    // shared with other stacks; nil for no limit
	Hedge           bool          // ask a second server when the first is slow
	Resolver        *net.Resolver // of servers' and proxies' names; nil is the system's
	FollowRedirects bool
	UserAgent       string
	TLS             *tls.Config
	Clock           func() time.Time
}

func (c *Config) defaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&c.Timeout, 5*time.Second)
	set(&c.TimeoutDirect, 10*time.Second)
	set(&c.ProxyReset, 300*time.Second)
	set(&c.ServerReset, 1800*time.Second)
	if c.Proxies == "" {
		c.Proxies = Direct
	}
	if c.Retries == 0 {
		c.Retries = 1
	}
	if c.Concurrency <= 0 {
		c.Concurrency = 32
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
}

// Stack is everything between a repository and its servers.
type Stack struct {
	*Limit
	servers  *Servers
	proxies  *Proxies
	counters Counters
	https    []*HTTP
	limits   [2]time.Duration // through a proxy, directly
}

// New builds the stack. Nothing is sent yet.
func New(c Config) (*Stack, error) {
	c.defaults()
	groups, err := ParseProxies(c.Proxies, c.FallbackProxies)
	if err != nil {
		return nil, err
	}
	s := &Stack{proxies: NewProxies(groups, c.ProxyReset, c.Clock), limits: [2]time.Duration{c.Timeout, c.TimeoutDirect}}
	var list []*Server
	for _, base := range c.Servers {
		f, err := s.proxies.Through(func(proxy *url.URL) (Fetcher, error) { return s.hop(&c, base, proxy) })
		if err != nil {
			return nil, err
		}
		list = append(list, &Server{Name: strings.TrimRight(base, "/"), Fetcher: f})
	}
	if s.servers, err = NewServers(list, c.ServerReset, c.Clock); err != nil {
		return nil, err
	}
	s.servers.Hedge = c.Hedge
	s.Limit = NewLimit(s.servers, c.Concurrency)
	return s, nil
}

// hop is one way to one server.
func (s *Stack) hop(c *Config, base string, proxy *url.URL) (Fetcher, error) {
	timeout := c.TimeoutDirect
	if proxy != nil {
		timeout = c.Timeout
	}
	h, err := NewHTTP(base, HTTPOptions{
		Proxy: proxy, Timeout: timeout, LowSpeed: c.LowSpeed, UserAgent: c.UserAgent,
		FollowRedirects: c.FollowRedirects, TLS: c.TLS, Counters: &s.counters,
		Bandwidth: c.Bandwidth, Resolver: c.Resolver,
	})
	if err != nil {
		return nil, err
	}
	s.https = append(s.https, h)
	return &Retry{Inner: h, Retries: max(0, c.Retries), Init: c.BackoffInit, Max: c.BackoffMax}, nil
}

// Close drops idle connections.
func (s *Stack) Close() {
	for _, h := range s.https {
		h.Close()
	}
}

// Network is what an operator asks about the stack's state.
type Network struct {
	Server, Proxy string   // the next request goes there
	Servers       []string // in order of preference
	Proxies       string   // as configured
	Timeout       time.Duration
	TimeoutDirect time.Duration
	Totals        Totals
	Hedges        int64 // requests sent to a second server because the first was slow
}

// States reports what is thought of each server and each proxy.
func (s *Stack) States() (servers, proxies []State) { return s.servers.States(), s.proxies.States() }

// Network reports the present state.
func (s *Stack) Network() Network {
	return Network{
		Server: s.servers.Current(), Proxy: s.proxies.Current(),
		Servers: s.servers.List(), Proxies: s.proxies.List(), Totals: s.counters.Totals(), Hedges: s.servers.hedges.Load(),
		Timeout: s.limits[0], TimeoutDirect: s.limits[1],
	}
}

// Getter is a place that files can be read from by name, say a store.
type Getter interface {
	Get(ctx context.Context, name string) (io.ReadCloser, error)
}

// FromGetter reads a repository where it lies, without a server. A missing
// file must be reported as fs.ErrNotExist.
func FromGetter(name string, g Getter) Fetcher { return getter{name, g} }

type getter struct {
	name string
	from Getter
}

func (g getter) Fetch(ctx context.Context, path string, _ Options) (io.ReadCloser, error) {
	body, err := g.from.Get(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", g.name, kindOf(err))
	}
	return body, nil
}

func kindOf(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		// Not wrapped: a missing object is no proof that a file is missing.
		return fmt.Errorf("%w: %v", ErrNotFound, err) //nolint:errorlint // on purpose
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
