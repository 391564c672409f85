package fault_test

import (
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/internal/testrepo"
	"github.com/rootstock-cf/rootstock/manifest"
)

func trustFaults() []fault {
	const rejected = "rootstock_repository_rejected_total"
	return []fault{
		{"manifest of an older revision is replayed", "refused, also after a restart; the newest stays", rejected, func(t *testing.T, f *fixture) {
			old := f.repo.Get(manifest.FileName)
			f.publish(testrepo.Tree{"/newer": testrepo.Text("newer")})
			f.start()
			f.repo.Put(manifest.FileName, old)
			if f.refresh() == "" {
				t.Error("an older manifest was taken")
			}
			shows(t, f, "newer")
			f.stop()
			f.start()
			shows(t, f, "newer")
		}},
		{"manifest of another repository", "refused; what was shown stays", rejected, func(t *testing.T, f *fixture) {
			other := testrepo.New(t, testrepo.Options{Name: "other.example.org"})
			other.Publish(testrepo.Tree{"/dir/00": testrepo.Text("wrong")})
			f.start()
			f.repo.Put(manifest.FileName, other.Get(manifest.FileName))
			if f.refresh() == "" {
				t.Error("another repository's manifest was taken")
			}
			f.good("another's manifest")
		}},
		{"manifest is an error page with status 200", "refused; what was shown stays", rejected, func(t *testing.T, f *fixture) {
			f.start()
			f.repo.Fault(manifest.FileName, func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>It works!</html>")) })
			if f.refresh() == "" {
				t.Error("an error page was taken")
			}
			f.good("error page")
		}},
		{"catalog of a new revision is damaged", "the last revision stays", `rootstock_fetch_failures_total{outcome="corrupt"}`, func(t *testing.T, f *fixture) {
			f.start()
			f.publish(testrepo.Tree{"/newer": testrepo.Text("newer")})
			f.repo.Fault("data/", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("nothing of the kind")) })
			if f.refresh() == "" {
				t.Error("a damaged catalog was taken")
			}
			f.repo.Fault("data/", nil)
			f.good("damaged catalog")
			if e := f.refresh(); e != "" {
				t.Errorf("catalog whole again: %s", e)
			}
			shows(t, f, "newer")
		}},
		{"whitelist runs out while mounted", "what is in view goes on; no new revision until it is signed again", rejected, func(t *testing.T, f *fixture) {
			f.start()
			f.clock.add(72 * time.Hour)
			f.publish(testrepo.Tree{"/newer": testrepo.Text("newer")})
			if f.refresh() == "" {
				t.Error("a new revision was taken")
			}
			f.good("whitelist ran out")
			f.repo.Whitelist(f.clock.now().Add(48 * time.Hour))
			if e := f.refresh(); e != "" {
				t.Errorf("whitelist signed again: %s", e)
			}
			shows(t, f, "newer")
		}},
		{"clock goes back two years", "reads go on; no new revision is lost", "rootstock_repository_opens_total", func(t *testing.T, f *fixture) {
			f.start()
			f.clock.add(-2 * 365 * 24 * time.Hour)
			f.good("clock went back")
			f.refresh() // may be refused: the certificate is of the future
			f.clock.add(2 * 365 * 24 * time.Hour)
			f.publish(testrepo.Tree{"/newer": testrepo.Text("newer")})
			if e := f.refresh(); e != "" {
				t.Errorf("clock right again: %s", e)
			}
			shows(t, f, "newer")
		}},
	}
}

func shows(t *testing.T, f *fixture, name string) {
	t.Helper()
	if b, err := os.ReadFile(f.mnt + "/" + name); err != nil || string(b) != name {
		t.Errorf("%s: %q, %v", name, b, err)
	}
}
