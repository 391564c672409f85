package serve

import (
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// geo is the Geo-API (CVMFS-FORMAT 8.4) without geography: the operator says
// which servers come first.
type geo struct{ rank map[string]int }

const (
	geoPart = "/api/v1.0/geo/"
	// proxySeparator stands between the hosts and the proxies of a request.
	proxySeparator = "+PXYSEP+"
	// maxHosts bounds what one request may ask to be sorted.
	maxHosts = 256
)

func newGeo(order []string) *geo {
	g := &geo{rank: map[string]int{}}
	for i, host := range order {
		host = bare(host)
		if _, twice := g.rank[host]; !twice {
			g.rank[host] = i - len(order) // below 0, the rank of all others
		}
	}
	return g
}

// bare is a host name without port, in lower case.
func bare(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(host)
}

func (g *geo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, "only GET and HEAD")
		return
	}
	_, rest, ok := strings.Cut(r.URL.Path, geoPart)
	who, list, found := strings.Cut(rest, "/")
	hosts := strings.Split(list, ",")
	w.Header().Set("Content-Type", "text/plain")
	if !ok || !found || who == "" || len(hosts) > maxHosts || slices.Contains(hosts, "") {
		w.Header().Set("Cache-Control", "public, max-age=300")
		http.Error(w, "want api/v1.0/geo/NAME/HOST,HOST,…", http.StatusBadRequest)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=3600")
	var text []byte
	for i, n := range g.sort(hosts) {
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendInt(text, int64(n), 10)
	}
	_, _ = io.WriteString(w, string(text)+"\n") //nolint:errcheck // a client that left needs no answer
}

// sort returns the positions of hosts, counted from 1, in the order of
// preference: hosts, the separator if there is one, then proxies.
func (g *geo) sort(hosts []string) []int {
	order := make([]int, len(hosts))
	for i := range order {
		order[i] = i + 1
	}
	by := func(a, b int) int { return g.rank[bare(hosts[a-1])] - g.rank[bare(hosts[b-1])] }
	at := slices.Index(hosts, proxySeparator)
	if at < 0 {
		slices.SortStableFunc(order, by)
		return order
	}
	slices.SortStableFunc(order[:at], by)
	slices.SortStableFunc(order[at+1:], by)
	return order
}
