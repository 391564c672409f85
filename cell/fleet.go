package cell

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/rootstock-cf/rootstock/cell/opened"
	"github.com/rootstock-cf/rootstock/client/cache"
	"github.com/rootstock-cf/rootstock/fusefs/tree"
	"github.com/rootstock-cf/rootstock/fusefs/view"
	"github.com/rootstock-cf/rootstock/inventory/fleet"
	"github.com/rootstock-cf/rootstock/object"
)

// Fleet is where a cell answers those who ask what it runs.
type Fleet struct {
	Listen string // HOST:PORT; "" for nowhere
	// TLS demands a certificate of whoever asks: the answer has the guids of
	// apps, spaces and organizations.
	TLS *tls.Config
}

// FleetHandler answers GET /containers with the cell's report, POST /opened with
// those of the contents asked about that were ever opened here, GET /profiles with
// what was recorded of containers' starts, and GET /droplet?digest= with what a
// droplet consists of.
func (c *Cell) FleetHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+fleet.ContainersRoute, func(w http.ResponseWriter, r *http.Request) {
		d, err := c.Report(r.Context())
		c.reply(w, d, err)
	})
	mux.HandleFunc("POST "+fleet.OpenedRoute, func(w http.ResponseWriter, r *http.Request) {
		var asked fleet.Contents
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 80*fleet.MaxContents)).Decode(&asked)
		ids, wrong := asked.IDs()
		if err = errors.Join(err, wrong); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.reply(w, fleet.ContentsOf(c.openedOf(ids)), nil)
	})
	mux.HandleFunc("GET "+ProfilesRoute, c.serveProfiles)
	mux.HandleFunc("GET "+fleet.DropletRoute, c.serveDroplet)
	return mux
}

// openedOf returns those of ids that were opened as far as is known.
func (c *Cell) openedOf(ids []object.ContentID) (some []object.ContentID) {
	for _, id := range ids {
		if c.opened.Has(id) {
			some = append(some, id)
		}
	}
	return some
}

func (c *Cell) reply(w http.ResponseWriter, doc any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(doc); err != nil {
		c.o.Log.Debug("fleet answer", "error", err)
	}
}

// listenFleet takes the port and returns what serves it until ctx is done.
func (c *Cell) listenFleet(ctx context.Context) (serve func() error, err error) {
	if c.o.Fleet.TLS == nil || c.o.Fleet.TLS.ClientAuth != tls.RequireAndVerifyClientCert {
		return nil, fmt.Errorf("fleet at %s would be open to all: TLS has to demand that whoever asks has to show a certificate", c.o.Fleet.Listen)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", c.o.Fleet.Listen)
	if err != nil {
		return nil, fmt.Errorf("fleet at %s: %w", c.o.Fleet.Listen, err)
	}
	c.o.Log.Info("fleet", "address", l.Addr().String())
	server := &http.Server{
		Handler: c.FleetHandler(), TLSConfig: c.o.Fleet.TLS, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		// Whoever knocks without a certificate is no news of ours.
		ErrorLog: slog.NewLogLogger(c.o.Log.Handler(), slog.LevelDebug),
	}
	return func() error {
		stop := context.AfterFunc(ctx, func() { server.Close() }) //nolint:errcheck // nobody waits for an answer
		defer stop()
		if err := server.ServeTLS(l, "", ""); err != nil && !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("fleet at %s: %w", c.o.Fleet.Listen, err)
		}
		return nil
	}, nil
}

func openNotes(c *cache.Cache, log *slog.Logger) (*opened.Notes, error) {
	dir := filepath.Join(c.Dir(), "state")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("notes of opened contents: %w", err)
	}
	return opened.Open(filepath.Join(dir, "opened.ids"), opened.DefaultMost, log)
}

// notedView notes what the kernel opens in a repository's mount. The content of
// a file in pieces has no digest there; it stays unknown.
type notedView struct {
	tree.View
	digest func(ctx context.Context, n view.Node) (object.ContentID, bool)
	notes  *opened.Notes
}

// Open implements tree.Files.
func (v notedView) Open(ctx context.Context, n view.Node) (view.Content, error) {
	c, err := v.View.Open(ctx, n)
	if err == nil {
		if id, ok := v.digest(ctx, n); ok {
			v.notes.Note(id)
		}
	}
	return c, err
}
