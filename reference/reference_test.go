package reference_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rootstock-cf/rootstock/reference"
)

var digest = "sha256:" + strings.Repeat("0a", 32)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		text string
		want reference.Reference
		path string // "" where the newest version has to be found
	}{
		{"rootfs/cflinuxfs4", reference.Reference{Kind: reference.Rootfs, Name: "cflinuxfs4"}, ""},
		{
			"rootfs/cflinuxfs4@1.268.0",
			reference.Reference{Kind: reference.Rootfs, Name: "cflinuxfs4", Version: "1.268.0"},
			"/rootfs/cflinuxfs4/1.268.0",
		},
		{
			"rootfs/cflinuxfs4:stable",
			reference.Reference{Kind: reference.Rootfs, Name: "cflinuxfs4", Channel: "stable"},
			"/channels/rootfs/cflinuxfs4/stable",
		},
		{
			"rootfs/cflinuxfs4#stable",
			reference.Reference{Kind: reference.Rootfs, Name: "cflinuxfs4", Channel: "stable"},
			"/channels/rootfs/cflinuxfs4/stable",
		},
		{
			"buildpacks/java@4.70+b~2",
			reference.Reference{Kind: reference.Buildpacks, Name: "java", Version: "4.70+b~2"},
			"/buildpacks/java/4.70+b~2",
		},
		{
			"cvmfs://stacks.example.org/dirs/data@1",
			reference.Reference{Repository: "stacks.example.org", Kind: reference.Dirs, Name: "data", Version: "1"},
			"/dirs/data/1",
		},
		{
			"images/docker.io/library/nginx@1.27",
			reference.Reference{Kind: reference.Images, Name: "docker.io/library/nginx", Version: "1.27"},
			"/docker.io/library/nginx:1.27",
		},
		{
			"images/docker.io/library/nginx@" + digest,
			reference.Reference{Kind: reference.Images, Name: "docker.io/library/nginx", Version: digest},
			"/docker.io/library/nginx:" + digest,
		},
		{
			"images/localhost:5000/a/b__c.d---e",
			reference.Reference{Kind: reference.Images, Name: "localhost:5000/a/b__c.d---e"},
			"",
		},
		{
			"cvmfs://r.example.org/images/localhost:5000/app@_x",
			reference.Reference{
				Repository: "r.example.org", Kind: reference.Images,
				Name: "localhost:5000/app", Version: "_x",
			},
			"/localhost:5000/app:_x",
		},
		{
			"images/localhost:5000/app:prod",
			reference.Reference{Kind: reference.Images, Name: "localhost:5000/app", Channel: "prod"},
			"/channels/images/localhost:5000/app/prod",
		},
		{
			"cvmfs://unpacked.cern.ch/-/docker.io/library/nginx:1.27",
			reference.Reference{Repository: "unpacked.cern.ch", Path: "/docker.io/library/nginx:1.27"},
			"/docker.io/library/nginx:1.27",
		},
		{
			"cvmfs://unpacked.cern.ch/-/a b/ü@x",
			reference.Reference{Repository: "unpacked.cern.ch", Path: "/a b/ü@x"},
			"/a b/ü@x",
		},
		{"cvmfs://whole.example.org/-/", reference.Reference{Repository: "whole.example.org", Path: "/"}, "/"},
	} {
		got, err := reference.Parse(tc.text)
		if err != nil || got != tc.want {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", tc.text, got, err, tc.want)
			continue
		}
		if back, err := reference.Parse(got.String()); err != nil || back != got {
			t.Errorf("Parse(%q.String()) = %+v, %v", tc.text, back, err)
		}
		if path, ok := got.RepositoryPath(); path != tc.path || ok != (tc.path != "") {
			t.Errorf("%q lies at %q, %v; want %q", tc.text, path, ok, tc.path)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	long := strings.Repeat("a", 129)
	for _, text := range []string{
		"", "/", "rootfs", "rootfs/", "rootfs//a", "/rootfs/a", "rootfs/a/", "rootfs/a/b",
		"rootfs/..", "rootfs/.", "rootfs/.hidden", "rootfs/a@..", "rootfs/a@../b", "rootfs/a:../b",
		"rootfs/a@", "rootfs/a:", "rootfs/a#", "rootfs/@1", "rootfs/:c", "rootfs/a@1:c", "rootfs/a:c@1",
		"rootfs/a@b@c", "rootfs/a##b", "rootfs/a b", "rootfs/a\n", "rootfs/a\x00", "rootfs/ä",
		"rootfs/" + long, "rootfs/a@" + long, "rootfs/a:" + long, "rootfs/a:stable.json",
		"rootfs/a@" + digest, "layers/a", "Rootfs/a", "-/etc", "rootfs/-a", "rootfs/a@-1",
		"cvmfs://", "cvmfs:///rootfs/a", "cvmfs://r", "cvmfs://r/", "cvmfs://r/rootfs", "cvmfs://../rootfs/a",
		"cvmfs://r.org:80/rootfs/a", "cvmfs://u@r.org/rootfs/a", "cvmfs://" + long + "/rootfs/a",
		"CVMFS://r.org/rootfs/a", "docker:///library/busybox", "oci:///a", "cvmfs#//r.org/rootfs/a#x",
		"cvmfs://r.org/-", "cvmfs://r.org/-//", "cvmfs://r.org/-/a/", "cvmfs://r.org/-/a//b",
		"cvmfs://r.org/-/../a", "cvmfs://r.org/-/a/..", "cvmfs://r.org/-/./a", "cvmfs://r.org/-/a\tb",
		"cvmfs://r.org/-/a\u0085b", "cvmfs://r.org/-/a\xffb", "cvmfs://r.org/-/a#b#c",
		"cvmfs://r.org/-/" + strings.Repeat("a", 256), "cvmfs://r.org/-/" + strings.Repeat("a/", 2048),
		"images/nginx", "images/library/nginx", "images/docker.io", "images/docker.io/", "images/docker.io//x",
		"images/docker.io/X", "images/docker.io/a..b", "images/docker.io/a___b", "images/docker.io/a-",
		"images/docker.io/../x", "images/host:/x", "images/host:port/x", "images/host:123456/x",
		"images/rootfs/x", "images/.flat/x", "images/Docker.io/x", "images/a..b/x", "images/docker.io/x@sha256:ab",
		"images/docker.io/x@sha256:" + strings.Repeat("AB", 32), "images/docker.io/x@sha512:" + strings.Repeat("ab", 64),
		"images/docker.io/x@" + long, "images/docker.io/x@a+b", "images/docker.io/" + strings.Repeat("a", 256),
	} {
		if got, err := reference.Parse(text); !errors.Is(err, reference.ErrInvalid) {
			t.Errorf("Parse(%.80q) = %+v, %v", text, got, err)
		} else if len(err.Error()) > 1024 || strings.ContainsAny(err.Error(), "\n\x00\t") || !utf8.ValidString(err.Error()) {
			t.Errorf("Parse(%.80q): message %q is not fit to show", text, err)
		}
	}
}

func TestVersionOf(t *testing.T) {
	for _, tc := range []struct{ ref, entry, want string }{
		{"rootfs/a", "1.0", "1.0"},
		{"rootfs/a", ".cvmfscatalog", ""},
		{"rootfs/a:stable", "2", "2"},
		{"images/docker.io/library/nginx", "nginx:1.27", "1.27"},
		{"images/docker.io/library/nginx", "nginx:" + digest, digest},
		{"images/docker.io/library/nginx", "nginx-more:1.27", ""},
		{"images/docker.io/library/nginx", "nginx:", ""},
		{"images/docker.io/library/nginx", "nginx", ""},
	} {
		r, err := reference.Parse(tc.ref)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := r.VersionOf(tc.entry)
		if ok != (tc.want != "") || ok && got != tc.want {
			t.Errorf("%s: VersionOf(%q) = %q, %v; want %q", tc.ref, tc.entry, got, ok, tc.want)
		}
		if !ok {
			continue
		}
		pinned := r.WithVersion(got)
		if path, _ := pinned.RepositoryPath(); path != r.VersionsDir()+"/"+tc.entry {
			t.Errorf("%s lies at %q, not at entry %q of %q", pinned, path, tc.entry, r.VersionsDir())
		}
	}
}

func TestJSON(t *testing.T) {
	type doc struct{ Ref reference.Reference }
	in := doc{reference.Reference{Kind: reference.Rootfs, Name: "a", Channel: "stable"}}
	text, err := json.Marshal(in)
	if err != nil || string(text) != `{"Ref":"rootfs/a:stable"}` {
		t.Fatalf("Marshal = %s, %v", text, err)
	}
	var out doc
	if err := json.Unmarshal(text, &out); err != nil || out != in {
		t.Errorf("Unmarshal = %+v, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"Ref":"rootfs/../a"}`), &out); !errors.Is(err, reference.ErrInvalid) {
		t.Errorf("Unmarshal of a climbing name: %v", err)
	}
	if _, err := json.Marshal(doc{reference.Reference{Kind: reference.Rootfs, Name: "..", Version: "1"}}); err == nil {
		t.Error("Marshal of an invalid reference gave no error")
	}
}

func TestDigest(t *testing.T) {
	for text, want := range map[string]string{
		"images/docker.io/x@" + digest: digest, "images/docker.io/x@1": "", "rootfs/a@1": "",
	} {
		r, err := reference.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := r.Digest(); got != want || ok != (want != "") {
			t.Errorf("%s: Digest = %q, %v", text, got, ok)
		}
	}
}

// What Parse accepts prints back to the same reference, and its paths stay
// inside the repository.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"rootfs/a@1", "rootfs/a#c", "images/localhost:5000/a/b@" + digest,
		"cvmfs://r.org/-/x/y", "cvmfs://r.org/buildpacks/j:stable", "images/a.b/c:d",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := reference.Parse(text)
		if err != nil {
			return
		}
		if back, err := reference.Parse(r.String()); err != nil || back != r {
			t.Fatalf("%q parses to %+v, which prints as %q and parses to %+v, %v", text, r, r, back, err)
		}
		dirs := []string{r.VersionsDir(), r.ChannelsDir()}
		if p, ok := r.RepositoryPath(); ok && p != "/" {
			dirs = append(dirs, p)
		}
		for _, p := range dirs {
			if p == "" && r.Path != "" {
				continue
			}
			for _, part := range strings.Split(p, "/")[1:] {
				if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "\x00\n") {
					t.Fatalf("%q gives the path %q", text, p)
				}
			}
		}
	})
}

func ExampleParse() {
	r, _ := reference.Parse("cvmfs://stacks.example.org/rootfs/cflinuxfs4#stable")
	path, _ := r.RepositoryPath()
	fmt.Println(r.Repository, r.Kind, r.Name, r.Channel)
	fmt.Println(r)
	fmt.Println(path)
	// Output:
	// stacks.example.org rootfs cflinuxfs4 stable
	// cvmfs://stacks.example.org/rootfs/cflinuxfs4:stable
	// /channels/rootfs/cflinuxfs4/stable
}
