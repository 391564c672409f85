package fleet_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/inventory/fleet"
	"github.com/rootstock-cf/rootstock/object"
)

func asker() *fleet.Asker { return &fleet.Asker{Client: http.DefaultClient} }

// A file may list cells; the address of a cell is enough, and answers stay in
// the order of the sources.
func TestAskListed(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == fleet.ContainersRoute {
			w.Write([]byte(`{"cell":"z9","taken":"2020-01-02T03:04:05Z","missing":[{"repository":"r.example.org","reason":"gone"}],"containers":[` + one + `]}`))
			return
		}
		http.NotFound(w, r)
	}))
	defer s.Close()
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	list := write("list", "# cells\n\n"+s.URL+" # the first\n"+s.URL+"/\n")
	begin := time.Now()
	cells := asker().Ask(t.Context(), []string{write("a", `{"cell":"a","containers":[]}`), list, write("junk", "junk"), write("empty", "\n"), write("b", "[]")})
	var got []string
	for _, c := range cells {
		text := c.Name
		if c.Err != nil {
			text = "!" + filepath.Base(c.Name)
		}
		got = append(got, text)
	}
	if want := []string{"a", "z9", "z9", "!junk", "!empty", filepath.Join(dir, "b")}; !slices.Equal(got, want) {
		t.Errorf("cells %v, want %v", got, want)
	}
	for name, text := range map[string]string{"empty": "# nobody\n", "over": strings.Repeat("# a long list\n", 1<<20)} {
		c := asker().Ask(t.Context(), []string{write("nobody", text)})
		if len(c) != 1 || c[0].Err == nil || !strings.Contains(c[0].Err.Error(), name) {
			t.Errorf("%s: %+v", name, c)
		}
	}
	// The address is said once.
	if c := asker().Ask(t.Context(), []string{"http://127.0.0.1:1/"}); len(c) != 1 || c[0].Err == nil || strings.Contains(c[0].Err.Error(), "http://") {
		t.Errorf("%+v", c)
	}
	// A cell's clock may be wrong: what counts is when it was asked.
	if at := cells[1].Asked; at.Before(begin) || at.After(time.Now()) {
		t.Errorf("asked at %v", at)
	}
	if cells[1].Incomplete() == nil || !strings.Contains(cells[1].Incomplete().Error(), "r.example.org: gone") || cells[0].Incomplete() != nil {
		t.Errorf("incomplete: %v, %v", cells[1].Incomplete(), cells[0].Incomplete())
	}
}

// What a file says is as old as the older of its two times.
func TestAgeOfFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cells")
	if err := os.WriteFile(file, []byte(`{"taken":"2020-01-02T03:04:05Z","containers":[]}{"containers":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	written := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := os.Chtimes(file, written, written); err != nil {
		t.Fatal(err)
	}
	cells := asker().Ask(t.Context(), []string{file})
	if len(cells) != 2 || cells[0].Asked.Year() != 2020 || !cells[1].Asked.Equal(written) {
		t.Errorf("%+v", cells)
	}
}

func TestOpened(t *testing.T) {
	var questions int
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked fleet.Contents
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || r.URL.Path != fleet.OpenedRoute {
			t.Errorf("%s: %v", r.URL, err)
		}
		ids, err := asked.IDs()
		if err != nil {
			t.Error(err)
		}
		questions++
		json.NewEncoder(w).Encode(fleet.ContentsOf(ids[:1]))
	}))
	defer s.Close()
	ids := make([]object.ContentID, fleet.MaxContents+1)
	for i := range ids {
		ids[i][0], ids[i][1] = byte(i), byte(i>>8)
	}
	for _, route := range []string{"", "/", fleet.ContainersRoute} {
		questions = 0
		got, err := asker().Opened(t.Context(), &fleet.Cell{Source: s.URL + route}, ids)
		if err != nil || questions != 2 || len(got) != 2 || got[0] != ids[0] || got[1] != ids[fleet.MaxContents] {
			t.Errorf("%s: %d questions, %d opened, %v", route, questions, len(got), err)
		}
	}
	// A document has nobody behind it.
	for _, source := range []string{"/some/file", s.URL + "/cell.json"} {
		questions = 0
		if got, err := asker().Opened(t.Context(), &fleet.Cell{Source: source}, ids); err != nil || got != nil || questions != 0 {
			t.Errorf("%s: %v, %v", source, got, err)
		}
	}
	if _, err := (fleet.Contents{Contents: []string{"ab"}}).IDs(); err == nil {
		t.Error("half an id was read")
	}
	if _, err := fleet.ContentsOf(ids).IDs(); !errors.Is(err, fleet.ErrInvalid) {
		t.Errorf("too many were read: %v", err)
	}
}

func TestPrometheus(t *testing.T) {
	kind := "vector"
	vector := map[string]string{
		"last_over_time(":                        `{"metric":{"instance":"a:1"},"value":[1,"0"]},{"metric":{"instance":"b:1"},"value":[1,"0"]},{"metric":{"instance":"c:1"},"value":[1,"0"]}`,
		"rootstock_cell_draining":                `{"metric":{"instance":"a:1"},"value":[1,"0"]},{"metric":{"instance":"c:1"},"value":[1,"0"]}`,
		"up == 0":                                `{"metric":{"instance":"d:1"},"value":[1,"0"]}`,
		"rootstock_cell_repository_mounted == 0": `{"metric":{"instance":"c:1","repository":"t.example.org"},"value":[1,"0"]}`,
		fleet.MetricContainers: `{"metric":{"instance":"a:1","repository":"t.example.org","name":"rootfs/demo","version":"1","channel":"stable"},"value":[1,"7"]},
			{"metric":{"instance":"a:1","repository":"t.example.org","name":"rootfs/demo","version":"2","channel":"stable"},"value":[1,"2"]},
			{"metric":{"instance":"c:1","repository":"t.example.org","name":"other","version":"","channel":""},"value":[1,"1"]}`,
		fleet.MetricBehind: `{"metric":{"instance":"a:1","repository":"t.example.org","name":"rootfs/demo","version":"1","channel":"stable"},"value":[1,"6"]}`,
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.FormValue("query")
		for begin, result := range vector {
			if strings.HasPrefix(query, begin) {
				w.Write([]byte(`{"status":"success","data":{"resultType":"` + kind + `","result":[` + result + `]}}`))
				return
			}
		}
		http.Error(w, query, http.StatusBadRequest)
	}))
	defer s.Close()
	cells, err := asker().Prometheus(t.Context(), s.URL+"/")
	if err != nil {
		t.Fatal(err)
	}
	sum := fleet.Summarize(cells)
	if sum.Cells != 1 || sum.Containers != 10 || sum.Behind != 6 || len(sum.Uses) != 3 || sum.Complete() {
		t.Errorf("%+v", sum)
	}
	var silent []string
	for _, c := range sum.Silent {
		silent = append(silent, c.Name+" "+c.Err.Error())
	}
	if len(silent) != 3 || !strings.HasPrefix(silent[0], "b:1 ") || !strings.Contains(silent[1], "t.example.org: it is not mounted") || !strings.HasPrefix(silent[2], "d:1 prometheus") {
		t.Errorf("silent: %q", silent)
	}
	if u := sum.Uses[1]; u.Ref.String() != "cvmfs://t.example.org/rootfs/demo:stable" || u.Version != "1" || u.Containers != 7 || u.Behind != 6 {
		t.Errorf("%+v", u)
	}
	vector[fleet.MetricBehind] = `{"metric":{"name":"../x"},"value":[1,"1"]}`
	if _, err := asker().Prometheus(t.Context(), s.URL); err == nil {
		t.Error("a name that is no reference was believed")
	}
	kind = "matrix"
	if _, err := asker().Prometheus(t.Context(), s.URL); err == nil || !strings.Contains(err.Error(), "matrix") {
		t.Errorf("an answer that is no vector: %v", err)
	}
	kind = "vector"
	delete(vector, "up == 0")
	if _, err := asker().Prometheus(t.Context(), s.URL); err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("a server that fails: %v", err)
	}
}
