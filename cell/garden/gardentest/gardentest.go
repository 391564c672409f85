// Package gardentest is a Garden for tests that answers as guardian does, as
// far as cells ask it.
package gardentest

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// Garden is a fake one. Its methods may be called concurrently.
type Garden struct {
	mu         sync.Mutex
	asked      []string
	properties map[string]map[string]string
	broken     bool
}

// Start serves a Garden on a unix socket until the test ends.
func Start(t testing.TB, socket string) *Garden {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, l)
}

// StartTCP serves one on a loopback port and returns its address.
func StartTCP(t testing.TB) (*Garden, string) {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, l), l.Addr().String()
}

func serve(t testing.TB, l net.Listener) *Garden {
	t.Helper()
	g := &Garden{properties: map[string]map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containers/{handle}/properties", g.answer)
	s := httptest.NewUnstartedServer(mux)
	s.Listener.Close() //nolint:errcheck // ours takes its place
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return g
}

// Create makes a container known with properties as executor sets them.
func (g *Garden) Create(handle string, properties map[string]string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.properties[handle] = properties
}

// Diego makes a container known as one of an app's, with everything that the
// guids and names below stand for.
func (g *Garden) Diego(handle, app, space, org, appName, spaceName, orgName string) {
	log, err := json.Marshal(map[string]any{
		"guid": app, "index": 0, "source_name": "APP/PROC/WEB",
		"tags": map[string]string{"app_id": app, "app_name": appName, "space_name": spaceName, "organization_name": orgName},
	})
	if err != nil {
		panic(err) // strings can be encoded
	}
	g.Create(handle, map[string]string{
		"executor:owner": "executor", "log_config": string(log), "garden.grace-time": "0",
		"network.app_id": app, "network.space_id": space, "network.org_id": org,
		"network.policy_group_id": app, "network.container_workload": "app", "network.ports": "8080",
	})
}

// Break makes every answer a failure, or ends that.
func (g *Garden) Break(broken bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.broken = broken
}

// Asked lists the handles that were asked for.
func (g *Garden) Asked() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.asked...)
}

// answer is handleProperties of Garden's server over guardian's property
// manager: a handle that is not known has a nil map, which is written as null.
func (g *Garden) answer(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	handle := r.PathValue("handle")
	g.asked = append(g.asked, handle)
	w.Header().Set("Content-Type", "application/json")
	if g.broken || strings.Contains(handle, "/") {
		w.WriteHeader(http.StatusInternalServerError)
		json.NewEncoder(w).Encode(map[string]string{"Type": "", "Message": "broken", "Handle": "", "ProcessID": "", "Binary": ""}) //nolint:errcheck // a fake
		return
	}
	json.NewEncoder(w).Encode(g.properties[handle]) //nolint:errcheck // a fake
}
