package flatten_test

import (
	"context"
	"maps"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/publisher/flatten"
)

// What GNU tar makes of a directory of everything, in each format that can
// hold sparse files, comes out as the directory is, as far as the format says
// it at all.
func TestAsGNUTar(t *testing.T) {
	root := t.TempDir()
	sockets := odd(t, root)
	disk := walk(t, root)
	for _, s := range sockets {
		delete(disk, s)
	}
	for name, c := range map[string]struct {
		args   []string
		forget *regexp.Regexp // what the format cannot say
	}{
		"pax":            {[]string{"--format=pax", "--xattrs", "--xattrs-include=*"}, nil},
		"pax sparse 0.0": {[]string{"--format=pax", "--sparse", "--sparse-version=0.0", "--xattrs", "--xattrs-include=*"}, nil},
		"pax sparse 0.1": {[]string{"--format=pax", "--sparse", "--sparse-version=0.1", "--xattrs", "--xattrs-include=*"}, nil},
		"pax sparse 1.0": {[]string{"--format=pax", "--sparse", "--sparse-version=1.0", "--xattrs", "--xattrs-include=*"}, nil},
		"gnu sparse":     {[]string{"--format=gnu", "--sparse"}, regexp.MustCompile(`\.\d{9}|xattrs \S*`)},
		"old gnu":        {[]string{"--format=oldgnu"}, regexp.MustCompile(`\.\d{9}|xattrs \S*`)},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("tar", append(c.args, "--numeric-owner", "-C", root, "-cf", "-", ".")...) // #nosec G204
			var errs strings.Builder
			cmd.Stderr = &errs
			b, err := cmd.Output()
			if err != nil {
				t.Fatalf("tar: %v\n%s", err, &errs)
			}
			if len(b) > 1<<20 == strings.Contains(name, "sparse") {
				t.Errorf("a tar of %d bytes: its file with a hole is not stored as meant", len(b))
			}
			in := sink{}
			tree, err := flatten.Flatten(context.Background(), []*blob{{data: b}}, in, flatten.Options{Plain: true})
			if err != nil {
				t.Fatal(err)
			}
			checkTree(t, tree, in)
			want := maps.Clone(disk)
			if c.forget == nil {
				compare(t, tree, in, want)
				return
			}
			ours := described(tree, in)
			for p := range want {
				w, o := c.forget.ReplaceAllString(want[p], ""), c.forget.ReplaceAllString(ours[p], "")
				if w != o {
					t.Errorf("%q:\nours    %.300s\non disk %.300s", p, o, w)
				}
			}
			if len(ours) != len(want) {
				t.Errorf("%d entries, on disk %d", len(ours), len(want))
			}
		})
	}
}
