package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Direct stands for no proxy in a proxy string.
const Direct = "DIRECT"

// Groups are proxies as CernVM-FS writes them: members of a group share the
// load, the next group is for when all of one are down. A member is nil where
// the string says DIRECT.
type Groups [][]*url.URL

// ParseProxies reads "a|b;c;DIRECT" and the fallback groups that come after
// (CVMFS-FORMAT 6.4). If there are fallback groups, DIRECT is dropped from the
// regular ones; it is always dropped from the fallback groups.
func ParseProxies(regular, fallback string) (Groups, error) {
	first, err := parseGroups(regular, fallback != "")
	if err != nil {
		return nil, err
	}
	second, err := parseGroups(fallback, true)
	if err != nil {
		return nil, err
	}
	groups := slices.Concat(first, second)
	if len(groups) == 0 {
		return nil, fmt.Errorf("no proxy in %q: write %s to go without", regular, Direct)
	}
	return groups, nil
}

func parseGroups(text string, dropDirect bool) (Groups, error) {
	var groups Groups
	for part := range strings.SplitSeq(text, ";") {
		var group []*url.URL
		for name := range strings.SplitSeq(part, "|") {
			switch name = strings.TrimSpace(name); {
			case name == "" || name == Direct && dropDirect:
				continue
			case name == Direct:
				group = append(group, nil)
				continue
			case name == "auto":
				return nil, errors.New(`proxy "auto": discovery is not supported, name the proxies`)
			}
			proxy, err := parseProxy(name)
			if err != nil {
				return nil, err
			}
			group = append(group, proxy)
		}
		if len(group) > 0 {
			groups = append(groups, group)
		}
	}
	return groups, nil
}

func parseProxy(name string) (*url.URL, error) {
	if !strings.Contains(name, "://") {
		name = "http://" + name
	}
	u, err := url.Parse(name)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return nil, fmt.Errorf("proxy %q: want host:port or http://host:port", name)
	}
	return u, nil
}

// Proxies chooses the way to the servers. Its verdicts on proxies are shared
// by all servers.
type Proxies struct {
	members [][]*member
	reset   time.Duration
	now     func() time.Time
}

type member struct {
	url    *url.URL // nil is direct
	name   string
	seed   uint64
	index  int // over all groups
	health health
}

// NewProxies passes over a failed proxy for reset (CVMFS_PROXY_RESET_AFTER);
// now is the clock.
func NewProxies(groups Groups, reset time.Duration, now func() time.Time) *Proxies {
	p := &Proxies{reset: reset, now: now}
	index := 0
	for _, group := range groups {
		var members []*member
		for _, u := range group {
			m := &member{url: u, name: Direct, index: index}
			if u != nil {
				m.name = u.Redacted()
			}
			h := fnv.New64a()
			h.Write([]byte(m.name)) //nolint:errcheck // never fails
			m.seed = h.Sum64()
			members, index = append(members, m), index+1
		}
		p.members = append(p.members, members)
	}
	return p
}

// Current names the proxy that objects of shard 0 are asked of.
func (p *Proxies) Current() string { return p.order(0)[0].name }

// List names the proxies in the form they are configured in.
func (p *Proxies) List() string {
	var groups []string
	for _, group := range p.members {
		var names []string
		for _, m := range group {
			names = append(names, m.name)
		}
		groups = append(groups, strings.Join(names, "|"))
	}
	return strings.Join(groups, ";")
}

// States lists all proxies, group by group.
func (p *Proxies) States() (list []State) {
	now := p.now()
	for group, members := range p.members {
		for _, m := range members {
			list = append(list, State{Name: m.name, Group: group, Until: m.health.rest(now)})
		}
	}
	return list
}

// order gives every proxy a place: by group, within it by rendezvous hashing,
// so that losing a member moves only that member's objects.
func (p *Proxies) order(shard uint64) []*member {
	all := make([]*member, 0, 8)
	for _, group := range p.members {
		from := len(all)
		all = append(all, group...)
		if len(group) > 1 {
			slices.SortFunc(all[from:], func(a, b *member) int {
				return cmp.Compare(mix(b.seed^shard), mix(a.seed^shard))
			})
		}
	}
	return byHealth(all, func(m *member) *health { return &m.health }, p.now())
}

// mix is the finaliser of splitmix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Through returns a Fetcher of what lies behind the proxies; via makes the
// Fetcher for one of them, nil meaning direct.
func (p *Proxies) Through(via func(proxy *url.URL) (Fetcher, error)) (Fetcher, error) {
	t := &through{p: p}
	for _, group := range p.members {
		for _, m := range group {
			f, err := via(m.url)
			if err != nil {
				return nil, err
			}
			t.via = append(t.via, f)
		}
	}
	return t, nil
}

type through struct {
	p   *Proxies
	via []Fetcher // by member.index
}

func (t *through) Fetch(ctx context.Context, path string, o Options) (io.ReadCloser, error) {
	var failures []error
	for _, m := range t.p.order(o.Shard) {
		body, err := t.via[m.index].Fetch(ctx, path, o)
		if err == nil {
			m.health.ok()
			return &watched{ReadCloser: body, failed: func(err error) { t.judge(m, err) }}, nil
		}
		if !blamed(err, BlameProxy) {
			return nil, err
		}
		t.judge(m, err)
		failures = append(failures, err)
	}
	return nil, errors.Join(failures...)
}

func (t *through) judge(m *member, err error) {
	if blamed(err, BlameProxy) {
		m.health.fail(t.p.now(), t.p.reset)
	}
}
