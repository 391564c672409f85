package serve

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
)

// lastSnapshot is a root file that only replicas have.
const lastSnapshot = ".cvmfs_last_snapshot"

// repositoryInfo is an element of repositories.json (CVMFS-FORMAT 1.1).
type repositoryInfo struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

// info answers /cvmfs/info/v1/*.json.
func (s *Site) info() http.Handler {
	meta := s.Meta
	if meta == nil {
		meta = []byte(`{"administrator":"","email":"","organisation":"","custom":{}}` + "\n")
	}
	system := osRelease()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body []byte
		switch strings.TrimPrefix(r.URL.Path, infoPath) {
		case "meta.json":
			body = meta
		case "repositories.json":
			var err error
			if body, err = s.repositories(r.Context(), system); err != nil {
				s.Log.Error("list of repositories", "error", err)
				refuse(w, http.StatusInternalServerError, "the store failed; the server's log says why")
				return
			}
		default:
			refuse(w, http.StatusNotFound, "no such file")
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			refuse(w, http.StatusMethodNotAllowed, "only GET and HEAD")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", rootAge)
		_, _ = w.Write(body) //nolint:errcheck // a client that left needs no answer
	})
}

func (s *Site) repositories(ctx context.Context, system map[string]string) ([]byte, error) {
	list := map[string][]repositoryInfo{"repositories": {}, "replicas": {}}
	for _, fqrn := range slices.Sorted(maps.Keys(s.Repositories)) {
		kind := "repositories"
		if from, ok := s.Repositories[fqrn].(sizer); ok {
			_, replica, err := from.Has(ctx, lastSnapshot)
			if err != nil {
				return nil, err
			}
			if replica {
				kind = "replicas"
			}
		}
		list[kind] = append(list[kind], repositoryInfo{fqrn, strings.TrimSuffix(cvmfsPath+fqrn, "/")})
	}
	b, err := json.MarshalIndent(map[string]any{
		"schema": 1, "last_geodb_update": "never", "cvmfs_version": "rootstock",
		"os_id": system["ID"], "os_version_id": system["VERSION_ID"], "os_pretty_name": system["PRETTY_NAME"],
		"repositories": list["repositories"], "replicas": list["replicas"],
	}, "", "  ")
	return append(b, '\n'), err
}

// osRelease reads what the system says it is; nothing if it does not say.
func osRelease() map[string]string {
	says := map[string]string{}
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return says
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			says[k] = strings.Trim(v, `"'`)
		}
	}
	return says
}
