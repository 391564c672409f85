package version_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rootstock-cf/rootstock/inventory/version"
)

// pairs draws n pairs of versions that both parse.
func pairs(scheme version.Scheme, n int) [][2]string {
	gen := rapid.StringMatching(alphabets[scheme])
	seed := rand.IntN(1 << 30)
	var all [][2]string
	for i := 0; len(all) < n; i += 2 {
		p := [2]string{gen.Example(seed + i), gen.Example(seed + i + 1)}
		if _, err := version.Compare(scheme, p[0], p[1]); err == nil {
			all = append(all, p)
		}
	}
	return all
}

func stdin(all [][2]string) *bytes.Buffer {
	var b bytes.Buffer
	for _, p := range all {
		fmt.Fprintln(&b, p[0], p[1])
	}
	return &b
}

// check compares a program's answers, one of < = > a line, with ours.
func check(t *testing.T, scheme version.Scheme, all [][2]string, out []byte) {
	t.Helper()
	answers := strings.Fields(string(out))
	if len(answers) != len(all) {
		t.Fatalf("%d answers to %d pairs: %.300s", len(answers), len(all), out)
	}
	wrong := 0
	for i, p := range all {
		got, err := version.Compare(scheme, p[0], p[1])
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.Index("<=>", answers[i]) - 1; got != want && wrong < 20 {
			wrong++
			t.Errorf("%s %s: got %d, want %d", p[0], p[1], got, want)
		}
	}
}

// dpkg is part of every Debian machine this is tested on, so its order is
// checked against the program itself.
func TestDpkgCompareVersions(t *testing.T) {
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Skip("SKIPPED: no dpkg here, so Debian's order is checked against published examples only")
	}
	all := pairs(version.Dpkg, 2000)
	cmd := exec.Command("sh", "-c", `while read -r a b; do
		if dpkg --compare-versions "$a" lt "$b"; then echo "<"
		elif dpkg --compare-versions "$a" eq "$b"; then echo "="
		else echo ">"; fi
	done`)
	cmd.Stdin = stdin(all)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	check(t, version.Dpkg, all, out)
}

// The other ecosystems' own programs are asked where they are installed.
func TestOtherPrograms(t *testing.T) {
	for _, o := range []struct {
		scheme version.Scheme
		probe  []string // ends well where the program is there
		ask    []string
	}{
		{version.Gem, []string{"ruby", "-e", ""}, []string{"ruby", "-e", `
			$stdin.each_line { |l| a, b = l.split; puts %w[< = >][(Gem::Version.new(a) <=> Gem::Version.new(b)) + 1] }`}},
		{version.PEP, []string{"python3", "-c", packaging}, []string{"python3", "-c", packaging + `
import sys
for l in sys.stdin:
    a, b = map(V, l.split())
    print("<" if a < b else "=" if a == b else ">")`}},
		{version.NPM, []string{"node", "-e", nodeSemver}, []string{"node", "-e", nodeSemver + `
			for (const l of require("fs").readFileSync(0, "utf8").trim().split("\n"))
				console.log("<=>"[semver.compare(...l.split(" "), true) + 1])`}},
		{version.Maven, []string{"sh", "-c", maven + " 1 1"}, []string{"sh", "-c", "xargs -n 20000 " + maven + ` | awk '/^   /{if (++n % 2) print ($2 == "==") ? "=" : $2}'`}},
	} {
		t.Run(string(o.scheme), func(t *testing.T) {
			if err := exec.Command(o.probe[0], o.probe[1:]...).Run(); err != nil {
				t.Skipf("SKIPPED: %s does not answer here (%v); its order is checked against published examples only", o.probe[0], err)
			}
			all := pairs(o.scheme, 4000)
			cmd := exec.Command(o.ask[0], o.ask[1:]...)
			cmd.Stdin = stdin(all)
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			check(t, o.scheme, all, out)
		})
	}
}

// packaging is the library of PEP 440, by itself or as part of pip.
const packaging = `
try: from packaging.version import Version as V
except ImportError: from pip._vendor.packaging.version import Version as V
`

const maven = `java -cp "/usr/share/maven/lib/*" org.apache.maven.artifact.versioning.ComparableVersion`

const nodeSemver = `
	const dirs = [process.execPath + "/../../lib", "/usr/lib", "/usr/share", "/usr/local/lib"]
	const semver = require(require.resolve("semver", {paths: dirs.flatMap(d => [d + "/node_modules/npm", d + "/nodejs/npm", d + "/nodejs"])}))`
