package serve

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rootstock-cf/rootstock/store"
)

// Quick answers the requests that a server gets most, those for small objects,
// without what net/http does for each: which is more than all the rest, see
// docs/design/stores.md. It understands a GET of an object with headers that do
// not change its answer, and leaves all else to net/http.
type Quick struct {
	files        *handler
	repositories map[string]*quickRepository
	metrics      *Metrics
	access       *AccessLog
}

// wholeReader is a store that can read small files at once.
type wholeReader interface {
	ReadWhole(ctx context.Context, name string, p []byte) (size int, ok bool)
}

type quickRepository struct {
	store    wholeReader
	requests prometheus.Counter // nil without metrics
	bytes    prometheus.Counter
}

// Quick is nil if there is nothing it could answer: no repository of the site
// lies in a directory.
func (s *Site) Quick() *Quick {
	q := &Quick{
		files: newHandler(s.Repositories, s.Log), repositories: map[string]*quickRepository{},
		metrics: s.Metrics, access: s.Access,
	}
	for fqrn, from := range s.Repositories {
		r, ok := from.(wholeReader)
		if !ok {
			continue
		}
		own := &quickRepository{store: r}
		if s.Metrics != nil {
			own.requests = s.Metrics.requests.WithLabelValues(fqrn, strconv.Itoa(http.StatusOK))
			own.bytes = s.Metrics.bytes.WithLabelValues(fqrn)
		}
		q.repositories[fqrn] = own
	}
	if len(q.repositories) == 0 {
		return nil
	}
	return q
}

// headSpace is more than the header of an answer takes, in bytes.
const headSpace = 512

var quickBuffers = sync.Pool{New: func() any { return new([headSpace + smallObject]byte) }}

// answer sends what was asked for; ok is false, and nothing was sent, if
// another has to. After an error the connection is of no use.
func (q *Quick) answer(c *quickConn, r quickRequest, began time.Time) (ok bool, err error) {
	path := string(r.target)
	fqrn, name, ok := q.files.find(path)
	from := q.repositories[fqrn]
	if !ok || from == nil || !store.IsObject(name) {
		return false, nil
	}
	b, _ := quickBuffers.Get().(*[headSpace + smallObject]byte)
	defer quickBuffers.Put(b)
	size, ok := from.store.ReadWhole(context.Background(), name, b[headSpace:])
	if !ok {
		return false, nil
	}
	var space [headSpace]byte
	head := r.head(space[:0], name, size, began)
	if len(head) > headSpace {
		return false, nil
	}
	if q.metrics != nil {
		q.metrics.open.Inc()
		defer q.metrics.open.Dec()
	}
	start := headSpace - copy(b[headSpace-len(head):], head)
	n, err := c.Write(b[start : headSpace+size])
	took, sent := time.Since(began), int64(max(0, n-len(head)))
	if q.metrics != nil {
		from.requests.Inc()
		from.bytes.Add(float64(sent))
		q.metrics.seconds.Observe(took.Seconds())
	}
	if q.access != nil {
		q.access.line(&entry{
			remote: c.remote(), method: http.MethodGet, uri: path, proto: r.proto(), status: http.StatusOK,
			referer: string(r.referer), agent: string(r.agent), bytes: sent, at: began, took: took,
		})
	}
	return true, err
}

// quickRequest is a GET that can be answered with a file, whole.
type quickRequest struct {
	target, referer, agent []byte
	old                    bool // HTTP/1.0, with Connection: keep-alive
}

func (r *quickRequest) proto() string {
	if r.old {
		return "HTTP/1.0"
	}
	return "HTTP/1.1"
}

// head appends the header of an answer with an object.
func (r *quickRequest) head(b []byte, name string, size int, now time.Time) []byte {
	b = append(b, r.proto()...)
	b = append(b, " 200 OK\r\nAccept-Ranges: bytes\r\nCache-Control: "+objectAge+"\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(size), 10)
	b = append(b, "\r\nContent-Type: application/octet-stream\r\nEtag: "...)
	b = append(b, objectTag(name)...)
	b = append(b, "\r\nDate: "...)
	b = now.UTC().AppendFormat(b, http.TimeFormat)
	if r.old {
		b = append(b, "\r\nConnection: keep-alive"...)
	}
	return append(b, "\r\n\r\n"...)
}

// plainHeaders do not change what a GET of an object is answered. Any other
// makes a request net/http's.
var plainHeaders = []string{
	"Accept", "Accept-Encoding", "Accept-Language", "Cache-Control", "Connection", "Cvmfs-Info", "Forwarded", "Host",
	"Pragma", "Referer", "Surrogate-Capability", "User-Agent", "Via", "X-Forwarded-For", "X-Forwarded-Proto", "X-Real-Ip",
}

var (
	headEnd    = []byte("\r\n\r\n")
	lineEnd    = []byte("\r\n")
	getMethod  = []byte("GET ")
	headMethod = []byte("HEAD ")
)

// parseQuick understands p, if it is one quick request and nothing else.
func parseQuick(p []byte) (r quickRequest, ok bool) {
	if !bytes.HasPrefix(p, getMethod) || bytes.Index(p, headEnd) != len(p)-len(headEnd) {
		return r, false
	}
	line, rest, _ := bytes.Cut(p[:len(p)-len(lineEnd)], lineEnd)
	target, proto, _ := bytes.Cut(line[len(getMethod):], []byte(" "))
	switch string(proto) {
	case "HTTP/1.1":
	case "HTTP/1.0":
		r.old = true
	default:
		return r, false
	}
	if len(target) == 0 || target[0] != '/' {
		return r, false
	}
	for _, c := range target {
		if !isPlain(c) && c != '/' {
			return r, false
		}
	}
	r.target = target
	hosts, kept := 0, false
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, lineEnd)
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			return r, false
		}
		value = bytes.Trim(value, " \t")
		for _, c := range value {
			if c < ' ' && c != '\t' || c >= 0x7f {
				return r, false
			}
		}
		switch plainHeader(name) {
		case "":
			return r, false
		case "Host":
			hosts++
			for _, c := range value {
				if !isPlain(c) && c != ':' {
					return r, false
				}
			}
		case "Connection":
			if kept = strings.EqualFold(string(value), "keep-alive"); !kept {
				return r, false
			}
		case "Referer":
			r.referer = value
		case "User-Agent":
			r.agent = value
		}
	}
	return r, r.old && hosts <= 1 && kept || !r.old && hosts == 1
}

func isPlain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_'
}

// plainHeader returns which of plainHeaders name is, or "".
func plainHeader(name []byte) string {
	for _, h := range plainHeaders {
		if len(h) == len(name) && strings.EqualFold(h, string(name)) {
			return h
		}
	}
	return ""
}

// isHead reports whether p is the whole of a request that has no body, and
// nothing of what follows it.
func isHead(p []byte) bool {
	if bytes.Index(p, headEnd) != len(p)-len(headEnd) || !bytes.HasPrefix(p, getMethod) && !bytes.HasPrefix(p, headMethod) {
		return false
	}
	for rest := p; len(rest) > 0; {
		// net/http takes a bare \n for the end of a line, too.
		line, after, _ := bytes.Cut(rest, []byte("\n"))
		if len(bytes.TrimRight(line, "\r")) == 0 {
			return len(after) == 0
		}
		name, _, _ := bytes.Cut(line, []byte(":"))
		switch strings.ToLower(string(bytes.TrimSpace(name))) {
		case "content-length", "transfer-encoding", "upgrade", "expect", "trailer":
			return false
		}
		rest = after
	}
	return false
}
