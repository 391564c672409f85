package files_test

import (
	"crypto/sha256"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/imagemeta"
	"github.com/rootstock-cf/rootstock/inventory"
	"github.com/rootstock-cf/rootstock/inventory/files"
	"github.com/rootstock-cf/rootstock/object"
)

var tree = map[string]string{
	"usr/lib/libssl.so.3": "ssl", "usr/lib/libcrypto.so.3": "crypto", "usr/share/doc/libssl3/copyright": "free", "usr/lib/empty": "",
	"var/lib/dpkg/status": "…", "var/lib/dpkg/info/libssl3:amd64.list": "/.\n/usr\n/lib/libssl.so.3\n/usr/lib/libcrypto.so.3\n/usr/lib/empty\n/usr/share/doc/libssl3/copyright\n/gone\n/../../etc/shadow\n",
	"var/lib/dpkg/info/bash.list":        "/bin/bash\n",
	"bin/bash":                           "bash",
	"var/lib/dpkg/status.d/base":         "…",
	"var/lib/dpkg/status.d/base.md5sums": "0123  etc/base\n",
	"etc/base":                           "base",
	"lib/apk/db/installed":               "P:musl\nF:lib\nR:ld-musl.so\nF:etc\nR:base\n\nP:zlib\nF:lib\nR:libz.so\n",
	"lib/ld-musl.so":                     "musl",
	"lib/libz.so":                        "z",
	"srv/node_modules/a/package.json":    "a json", "srv/node_modules/a/lib/a.js": "a js", "srv/node_modules/a/node_modules/b/b.js": "b js",
	"srv/node_modules/ab/x.js":               "another",
	"usr/lib/python3/x-1.dist-info/METADATA": "meta",
	"usr/lib/python3/x-1.dist-info/RECORD":   "x/__init__.py,sha256=…,3\nx-1.dist-info/METADATA,,\n../../bin/x,,\n",
	"usr/lib/python3/x/__init__.py":          "x init",
	"usr/bin/x":                              "x bin",
	"gems/specifications/rack-2.0.gemspec":   "spec",
	"gems/gems/rack-2.0/lib/rack.rb":         "rack",
	"gems/gems/rack-2.0.1/lib/rack.rb":       "other rack",
	"usr/bin/tool":                           "go tool",
	"app/x.jar":                              "jar",
}

func listing() (entries []imagemeta.Entry) {
	for _, p := range slices.Sorted(maps.Keys(tree)) {
		entries = append(entries, imagemeta.Entry{Path: p, Mode: 0o100644, Size: int64(len(tree[p])), Content: sha256.Sum256([]byte(tree[p]))})
	}
	return entries
}

func TestOf(t *testing.T) {
	x := files.New(listing(), func(e *imagemeta.Entry) ([]byte, error) { return []byte(tree[e.Path]), nil })
	for _, c := range []struct {
		p    inventory.Package
		want string
	}{
		{inventory.Package{Ecosystem: inventory.Deb, Name: "libssl3", Arch: "amd64", Path: "var/lib/dpkg/status"}, "ssl crypto"},
		{inventory.Package{Ecosystem: inventory.Deb, Name: "bash", Arch: "amd64", Path: "var/lib/dpkg/status"}, "bash"},
		{inventory.Package{Ecosystem: inventory.Deb, Name: "base-files", Path: "var/lib/dpkg/status.d/base"}, "base"},
		{inventory.Package{Ecosystem: inventory.Deb, Name: "unknown", Path: "var/lib/dpkg/status"}, ""},
		{inventory.Package{Ecosystem: inventory.APK, Name: "musl", Path: "lib/apk/db/installed"}, "musl base"},
		{inventory.Package{Ecosystem: inventory.NPM, Name: "a", Path: "srv/node_modules/a/package.json"}, "a_json a_js"},
		{inventory.Package{Ecosystem: inventory.PyPI, Name: "x", Path: "usr/lib/python3/x-1.dist-info/METADATA"}, "x_init meta x_bin"},
		{inventory.Package{Ecosystem: inventory.Gem, Name: "rack", Path: "gems/specifications/rack-2.0.gemspec"}, "rack"},
		{inventory.Package{Ecosystem: inventory.Golang, Name: "stdlib", Path: "usr/bin/tool"}, "go_tool"},
		{inventory.Package{Ecosystem: inventory.Maven, Name: "g:a", Path: "app/x.jar!/META-INF/maven/g/a/pom.properties"}, "jar"},
		{inventory.Package{Ecosystem: inventory.Generic, Name: "node", Path: "manifest.yml"}, ""},
	} {
		got, err := x.Of(&c.p)
		var want []object.ContentID
		for text := range strings.FieldsSeq(c.want) {
			want = append(want, sha256.Sum256([]byte(strings.ReplaceAll(text, "_", " "))))
		}
		slices.SortFunc(want, func(a, b object.ContentID) int { return slices.Compare(a[:], b[:]) })
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s %s: %d contents, want %q (%v)", c.p.Ecosystem, c.p.Name, len(got), c.want, err)
		}
	}
}

func TestOfUnreadable(t *testing.T) {
	broken := errors.New("broken")
	x := files.New(listing(), func(*imagemeta.Entry) ([]byte, error) { return nil, broken })
	if _, err := x.Of(&inventory.Package{Ecosystem: inventory.Deb, Name: "bash", Path: "var/lib/dpkg/status"}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}
