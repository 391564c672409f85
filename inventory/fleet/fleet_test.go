package fleet_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/inventory/fleet"
)

const one = `{"handle":"h","ref":"cvmfs://t.example.org/rootfs/demo@1","tree":"ab","version":"1","since":"2026-01-02T03:04:05Z"}`

func TestParse(t *testing.T) {
	cells, err := fleet.Parse(strings.NewReader("["+one+"]\n{\"cell\":\"z1\",\"containers\":["+one+","+one+"]} {\"containers\":[]} {\"cell\":\"\",\"containers\":[]}"), "from")
	if err != nil || len(cells) != 4 {
		t.Fatalf("%v, %v", cells, err)
	}
	for i, want := range []struct {
		name string
		n    int
	}{{"from", 1}, {"z1", 2}, {"from", 0}, {"from", 0}} {
		if c := cells[i]; c.Name != want.name || len(c.Containers) != want.n {
			t.Errorf("cell %d is %s with %d", i, c.Name, len(c.Containers))
		}
	}
	if c := cells[0].Containers[0]; c.Handle != "h" || c.Ref.Name != "demo" || c.Since.Year() != 2026 {
		t.Errorf("%+v", c)
	}
	for name, bad := range map[string]string{
		"nothing": "", "no list": "{}", "a number": "7", "junk behind": "[] x", "a bad reference": `[{"ref":"../x"}]`,
		"too much": "[" + strings.Repeat(" ", fleet.MaxAnswer) + "]",
	} {
		cells, err := fleet.Parse(strings.NewReader(bad), "from")
		if !errors.Is(err, fleet.ErrInvalid) || strings.Contains(err.Error(), "more than") != (name == "too much") {
			t.Errorf("%s: %v, %v", name, cells, err)
		}
	}
}

// Whoever does not answer is in the result, by name.
func TestAsk(t *testing.T) {
	stop := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/good":
			w.Write([]byte("[" + one + "]"))
		case "/slow":
			<-stop
		default:
			http.NotFound(w, r)
		}
	}))
	defer s.Close()
	defer close(stop)
	host := strings.TrimPrefix(s.URL, "http://")
	file := filepath.Join(t.TempDir(), "cells.json")
	if err := os.WriteFile(file, []byte(`{"cell":"a","containers":[]}{"cell":"b","containers":[`+one+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &fleet.Asker{Client: &http.Client{Timeout: 200 * time.Millisecond}}
	cells := a.Ask(t.Context(), []string{s.URL + "/good", file, s.URL + "/gone", s.URL + "/slow", file + ".not", "http://127.0.0.1:1/"})
	want := []struct {
		name, err  string
		containers int
	}{
		{host, "", 1}, {"a", "", 0}, {"b", "", 1}, {host, "404", 0}, {host, "Timeout", 0}, {file + ".not", "no such file", 0}, {"127.0.0.1:1", "refused", 0},
	}
	if len(cells) != len(want) {
		t.Fatalf("%d cells: %+v", len(cells), cells)
	}
	for i, w := range want {
		c := cells[i]
		if c.Name != w.name || len(c.Containers) != w.containers || (w.err == "") != (c.Err == nil) || c.Err != nil && !strings.Contains(c.Err.Error(), w.err) {
			t.Errorf("cell %d: %+v, want %+v", i, c, w)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("[" + one + "]")
	f.Add(`{"cell":"z","containers":[` + one + `]}`)
	f.Fuzz(func(t *testing.T, text string) {
		cells, err := fleet.Parse(strings.NewReader(text), "from")
		if err == nil && len(cells) == 0 {
			t.Error("no cell and no error")
		}
	})
}
