package source_test

import (
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/internal/testregistry"
	"github.com/rootstock-cf/rootstock/publisher/source"
)

// Debian's registry, with and without a login, lists what was pushed to it.
func TestListsOfARegistry(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("REGISTRY_AUTH_FILE", "/nowhere")
	for name, password := range map[string]string{"open": "", "with login": "secret"} {
		t.Run(name, func(t *testing.T) {
			users := ""
			if password != "" {
				users = testregistry.Users(t, "ann", password)
			}
			host := testregistry.Start(t, users)
			dir := t.TempDir()
			run(t, "umoci", "init", "--layout", dir+"/img")
			run(t, "umoci", "new", "--image", dir+"/img:a")
			for _, to := range []string{"team/app:1", "team/app:2.0", "other:x"} {
				args := []string{"--insecure-policy", "copy", "-q", "--dest-tls-verify=false"}
				if password != "" {
					args = append(args, "--dest-creds", "ann:"+password)
				}
				run(t, "skopeo", append(args, "oci:"+dir+"/img:a", "docker://"+host+"/"+to)...)
			}
			o := source.Options{PlainHTTP: []string{host}, RetryDelay: time.Millisecond, Retries: -1}
			if password != "" {
				if _, err := source.Tags(t.Context(), host+"/team/app", o); !errors.Is(err, source.ErrRefused) {
					t.Errorf("without a login: %v", err)
				}
				o.Username, o.Password = "ann", password
			}
			got, err := source.Tags(t.Context(), host+"/team/app", o)
			if want := []string{"1", "2.0"}; err != nil || !slices.Equal(got, want) {
				t.Errorf("tags %q, %v, want %q", got, err, want)
			}
			got, err = source.Repositories(t.Context(), host, o)
			if want := []string{"other", "team/app"}; err != nil || !slices.Equal(got, want) {
				t.Errorf("repositories %q, %v, want %q", got, err, want)
			}
			if _, err = source.Tags(t.Context(), host+"/none", o); !errors.Is(err, source.ErrNotFound) {
				t.Errorf("no such repository: %v", err)
			}
			o.PlainHTTP = nil
			if _, err = source.Tags(t.Context(), host+"/team/app", o); !errors.Is(err, source.ErrPlainHTTP) {
				t.Errorf("not allowed to speak plain HTTP: %v", err)
			}
		})
	}
}

// A registry may answer anything, for ever.
func TestHostileLists(t *testing.T) {
	front := testregistry.NewFront(t, "127.0.0.1:1")
	endless := func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v2/" {
			w.WriteHeader(http.StatusOK)
			return true
		}
		what := map[bool]string{true: "tags", false: "repositories"}[strings.HasSuffix(r.URL.Path, "/tags/list")]
		w.Header().Set("Link", fmt.Sprintf(`<%s?n=1>; rel="next"`, r.URL.Path))
		fmt.Fprintf(w, `{%q:["a%s"]}`, what, strings.Repeat(`","b`, 30_000))
		return true
	}
	huge := func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v2/" {
			fmt.Fprintf(w, `{"tags":["a%s"]}`, strings.Repeat("x", 5<<20))
		}
		return true
	}
	o := source.Options{PlainHTTP: []string{front.Host}, Retries: -1}
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request) bool{"endless": endless, "huge": huge} {
		front.Fault(answer)
		if _, err := source.Tags(t.Context(), front.Host+"/x", o); !errors.Is(err, source.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := source.Repositories(t.Context(), front.Host, o); !errors.Is(err, source.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func run(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil { // #nosec G204
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}
