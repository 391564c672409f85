package serve

import (
	"log/slog"
	"net/http"
	"strings"

	"github.com/rootstock-cf/rootstock/store"
)

// Site is what a server offers besides the repositories' files. The zero value
// of each field leaves it out, or is a default.
type Site struct {
	// Repositories by their fully qualified names.
	Repositories map[string]store.Getter
	Log          *slog.Logger
	// GeoOrder are host names in the order in which clients are to prefer
	// them; all others come behind, in the order the client names them.
	GeoOrder []string
	// Meta is /cvmfs/info/v1/meta.json, a JSON object of contact information.
	Meta []byte
	// Metrics counts requests, and is shown at /metrics.
	Metrics *Metrics
	// Access gets a line for each request.
	Access *AccessLog
}

const (
	metricsPath = "/metrics"
	infoPath    = "/cvmfs/info/v1/"
	apiPart     = "/api/"
)

// Handler serves the site: the repositories as [Handler] does, and
//
//	/metrics                              for Prometheus
//	/cvmfs/info/v1/repositories.json      what is served here
//	/cvmfs/info/v1/meta.json              who runs it
//	/cvmfs/NAME/api/v1.0/geo/WHO/HOSTS    the Geo-API
//
// [Site.Quick] answers some of these requests in less time.
func (s *Site) Handler() http.Handler {
	files := Handler(s.Repositories, s.Log)
	info := s.info()
	geo := newGeo(s.GeoOrder)
	var metrics http.Handler
	if s.Metrics != nil {
		metrics = s.Metrics.handler(s.Repositories)
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		switch {
		case path == metricsPath && metrics != nil:
			metrics.ServeHTTP(w, r)
		case strings.HasPrefix(path, infoPath):
			info.ServeHTTP(w, r)
		case s.isAPI(path):
			geo.ServeHTTP(w, r)
		default:
			files.ServeHTTP(w, r)
		}
	})
	if s.Metrics == nil && s.Access == nil {
		return h
	}
	return s.observe(h)
}

// isAPI tells a repository's API from its files.
func (s *Site) isAPI(path string) bool {
	rest, ok := strings.CutPrefix(path, cvmfsPath)
	if !ok {
		return len(s.Repositories) == 1 && strings.HasPrefix(path, apiPart)
	}
	fqrn, rest, _ := strings.Cut(rest, "/")
	_, ok = s.Repositories[fqrn]
	return ok && strings.HasPrefix("/"+rest, apiPart)
}

// repositoryOf is the label of a request's path: a repository that is served
// here, or "".
func (s *Site) repositoryOf(path string) string {
	if rest, ok := strings.CutPrefix(path, cvmfsPath); ok {
		fqrn, _, _ := strings.Cut(rest, "/")
		if _, ok := s.Repositories[fqrn]; ok {
			return fqrn
		}
		return ""
	}
	if len(s.Repositories) == 1 && (strings.HasPrefix(path, "/data/") || strings.HasPrefix(path, "/.cvmfs") || strings.HasPrefix(path, apiPart)) {
		for fqrn := range s.Repositories {
			return fqrn
		}
	}
	return ""
}
