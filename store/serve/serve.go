// Package serve is a web server for repositories: what rootstock serve runs,
// and what a stratum 1, a squid, a CDN or a cell may talk to (CVMFS-FORMAT
// 8.2).
//
// A request names one file of one repository; it is checked to be a name that
// repositories have, opened in the store, and sent as it is stored, from a
// local store by sendfile. Nothing is listed, and nothing is encoded.
package serve

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/store"
)

const (
	// maxName bounds a root file's name, in bytes.
	maxName = 128

	healthPath = "/healthz"
	cvmfsPath  = "/cvmfs/"
)

type handler struct {
	repositories map[string]store.Getter
	only         string // the name of what / serves, if there is just one
	log          *slog.Logger
}

// Handler serves each repository, by its fully qualified name, below
// /cvmfs/NAME/, and at / too if there is only one. GET and HEAD are answered,
// with ranges where the store's objects can seek, as those of a local store
// can. /healthz says 200 while every repository's manifest can be opened, and
// otherwise 503 and which cannot. What a store reports is logged to log, not
// shown.
func Handler(repositories map[string]store.Getter, log *slog.Logger) http.Handler {
	return newHandler(repositories, log)
}

func newHandler(repositories map[string]store.Getter, log *slog.Logger) *handler {
	h := &handler{repositories: repositories, log: log}
	if len(repositories) == 1 {
		for h.only = range repositories {
		}
	}
	return h
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, "only GET and HEAD")
		return
	}
	if r.URL.Path == healthPath {
		h.health(w, r)
		return
	}
	fqrn, name, ok := h.find(r.URL.Path)
	from := h.repositories[fqrn]
	if !ok || from == nil {
		refuse(w, http.StatusNotFound, "no such file")
		return
	}
	body, err := from.Get(r.Context(), name)
	if errors.Is(err, store.ErrNotExist) {
		refuse(w, http.StatusNotFound, "no such file")
		return
	} else if err != nil {
		h.fail(w, r, err)
		return
	}
	defer body.Close()
	h.send(w, r, from, name, body)
}

// find tells which repository and which of its files a path means. The path is
// taken as it is: one that would have to be cleaned names nothing. Whether there
// is such a repository is for the caller to see.
func (h *handler) find(path string) (fqrn, name string, ok bool) {
	if rest, ok := strings.CutPrefix(path, cvmfsPath); ok {
		fqrn, name, _ := strings.Cut(rest, "/")
		return fqrn, name, served(name)
	}
	name, ok = strings.CutPrefix(path, "/")
	return h.only, name, ok && h.only != "" && served(name)
}

// served reports whether name is one that a repository shows: an object, or a
// root file whose name starts with .cvmfs.
func served(name string) bool {
	if store.IsObject(name) {
		_, _, ok := object.ParsePath(name)
		return ok
	}
	if !strings.HasPrefix(name, ".cvmfs") || len(name) > maxName {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
