package e2e_test

import (
	"encoding/pem"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/internal/testregistry"
)

// docs/week.md does what it says: its commands run, in one shell and in their
// order, and print what stands below them.
func TestOperatorsWeek(t *testing.T) {
	page, err := os.ReadFile("../docs/week.md")
	must(t, err)
	dir := t.TempDir()
	run(t, dir, "python3", abs(t, "testdata/week.py"))
	must(t, os.WriteFile(filepath.Join(dir, "password.txt"), []byte("secret word\n"), 0o600))
	open := testregistry.Start(t, "")
	private := testregistry.Start(t, testregistry.Users(t, "ci", "secret word"))
	for host, to := range map[string]string{open: "library/base:1", private: "team/app:7"} {
		run(t, dir, "skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", "--dest-creds", "ci:secret word", "oci:image:1", "docker://"+host+"/"+to)
	}
	text, certificates := string(page), ""
	names := map[string]string{}
	for name, host := range map[string]string{"registry.example.org": open, "private.example.org": private} {
		s := httptest.NewTLSServer(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host}))
		t.Cleanup(s.Close)
		names[name] = strings.TrimPrefix(s.URL, "https://")
		text = strings.ReplaceAll(text, name, names[name])
		certificates += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	}
	trusted := filepath.Join(dir, "trusted.pem")
	must(t, os.WriteFile(trusted, []byte(certificates), 0o600))

	// Each block of commands, and the block of output that follows it at once.
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```\n(?:```\n(.*?)```\n)?").FindAllStringSubmatch(text, -1)
	if len(blocks) < 12 {
		t.Fatalf("the page has %d blocks of commands", len(blocks))
	}
	const mark = "=== end of block"
	var script strings.Builder
	for _, b := range blocks {
		script.WriteString(b[1] + "echo '" + mark + "'\n")
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", "exec 2>&1\n"+script.String()) // #nosec G204 -- our page
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+programs(t)+":"+os.Getenv("PATH"), "HOME="+dir, "DOCKER_CONFIG="+dir, "SSL_CERT_FILE="+trusted)
	said, err := cmd.CombinedOutput()
	outputs := strings.Split(string(said), mark+"\n")
	for i, b := range blocks {
		if i >= len(outputs)-1 {
			t.Fatalf("%v in\n%s\n%s", err, b[1], outputs[len(outputs)-1])
		}
		if want := b[2]; want != "" && !asOnPage(want, outputs[i]) {
			t.Errorf("%s\nprints\n%s\nand not\n%s", b[1], outputs[i], want)
		}
	}
}

// asOnPage compares what was printed with what a page shows: … stands for a part
// of a line, or on a line of its own for any lines.
func asOnPage(want, got string) bool {
	var p strings.Builder
	for line := range strings.Lines(want) {
		if line == "…\n" {
			p.WriteString("(.*\n)*")
			continue
		}
		p.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*"))
	}
	return regexp.MustCompile("^" + p.String() + "$").MatchString(got)
}
