package packages

import (
	"bytes"
	"encoding/binary"
	"runtime/debug"
	"strings"

	"github.com/rootstock-cf/rootstock/inventory"
)

// goMagic begins the record a Go program carries about how it was built, at an
// address, and so an offset, that 16 divides.
var goMagic = []byte("\xff Go buildinf:")

const (
	goAlign  = 16
	goHeader = 32
	// goMaxText bounds the list of modules, in bytes. The largest programs
	// known have some 100 KiB.
	goMaxText = 1 << 20
	// goMaxTries bounds how many places that look like a record are read;
	// each may have to be scanned again.
	goMaxTries = 16
)

// goScan looks for build records in a program that streams by. Where
// debug/buildinfo looks into ELF sections, this looks everywhere: it needs no
// second look at the file, and finds programs embedded in others.
type goScan struct {
	offset int64  // in the file, of tail
	tail   []byte // bytes that may begin a record, or the record so far
	within bool   // tail begins with one
	head   []byte // of the file, until it has told whether this is a program
	dead   bool
	tries  int
	out    found
}

var elfMagic = []byte("\x7fELF")

func (g *goScan) write(p []byte) {
	if g.dead {
		return
	}
	if len(g.head) < len(elfMagic) {
		n := min(len(elfMagic)-len(g.head), len(p))
		g.head = append(g.head, p[:n]...)
		if !bytes.HasPrefix(elfMagic, g.head) {
			g.dead = true
			return
		}
	}
	if len(g.tail) > 0 {
		g.tail = append(g.tail, p...)
		p, g.tail = g.tail, nil
	}
	g.search(p)
}

// search reads p, which lies at g.offset, and keeps what the next bytes may
// complete.
func (g *goScan) search(p []byte) {
	for {
		if !g.within {
			i := bytes.Index(p, goMagic)
			if i < 0 {
				g.hold(p, max(0, len(p)-len(goMagic)+1))
				return
			}
			if (g.offset+int64(i))%goAlign != 0 {
				g.offset, p = g.offset+int64(i)+1, p[i+1:]
				continue
			}
			g.offset, p, g.within = g.offset+int64(i), p[i:], true
		}
		verdict := g.record(p)
		if verdict == goMore {
			g.hold(p, 0)
			return
		}
		if g.tries++; g.tries >= goMaxTries {
			g.out.gap = "too many places look like a Go program's build record"
			g.dead = true
			return
		}
		g.offset, p, g.within = g.offset+goAlign, p[goAlign:], false
	}
}

// hold keeps p from i on. It copies: p is the caller's, or an earlier tail.
func (g *goScan) hold(p []byte, i int) {
	g.offset += int64(i)
	g.tail = append([]byte(nil), p[i:]...)
}

type goVerdict int

const (
	goMore goVerdict = iota // the record is not complete
	goOver                  // it is read, or none
)

// record reads the build record that p may begin with.
func (g *goScan) record(p []byte) goVerdict {
	if len(p) < goHeader {
		return goMore
	}
	if flags := p[15]; flags&2 == 0 {
		if flags <= 1 && (p[14] == 4 || p[14] == 8) {
			g.out.gap = "built with Go before 1.18, whose build records are not read"
		}
		return goOver
	}
	release, rest, v := goString(p[goHeader:], maxVersion)
	if v != goOver || rest == nil || !strings.HasPrefix(release, "go") && !strings.HasPrefix(release, "devel") {
		return v
	}
	modules, rest, v := goString(rest, goMaxText)
	if v != goOver || rest == nil {
		return v
	}
	g.modules(release, modules)
	return goOver
}

// goString reads a string after its length. rest is nil if there is none.
func goString(p []byte, limit uint64) (s string, rest []byte, v goVerdict) {
	n, w := binary.Uvarint(p)
	switch {
	case w == 0 && len(p) < binary.MaxVarintLen64:
		return "", nil, goMore
	case w <= 0 || n > limit:
		return "", nil, goOver
	case uint64(len(p)-w) < n:
		return "", nil, goMore
	}
	end := w + int(n) //nolint:gosec // n is below limit
	return string(p[w:end]), p[end:len(p):len(p)], goOver
}

func (g *goScan) modules(release, modules string) {
	g.add("stdlib", goRelease(release))
	const guard = 16 // bytes before and after the text, for whoever searches memory
	if len(modules) < 2*guard+1 || modules[len(modules)-guard-1] != '\n' {
		return
	}
	info, err := debug.ParseBuildInfo(modules[guard : len(modules)-guard])
	if err != nil {
		g.out.gap = reason(err)
		return
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		g.add(info.Main.Path, v)
	}
	for _, m := range info.Deps {
		if m == nil {
			continue
		}
		if r := m.Replace; r != nil && r.Version != "" {
			m = r // of a replacement by a directory only the original has a version
		}
		g.add(m.Path, m.Version)
	}
}

func (g *goScan) add(name, version string) {
	p := inventory.Package{Ecosystem: inventory.Golang, Name: name, Version: version}
	if !proper(&p) || len(g.out.packages) >= maxPackages {
		g.out.gap = strange
		return
	}
	g.out.packages = append(g.out.packages, p)
}

// goRelease turns Go's own versions into semantic ones, as its vulnerability
// database writes them: go1.22rc2 is 1.22.0-rc.2.
func goRelease(s string) string {
	s, _, _ = strings.Cut(strings.TrimPrefix(s, "go"), " ")
	for _, pre := range []string{"rc", "beta"} {
		if number, n, ok := strings.Cut(s, pre); ok {
			if strings.Count(number, ".") == 1 {
				number += ".0"
			}
			return number + "-" + pre + "." + n
		}
	}
	return s
}

// end returns what the file said. A record that was cut off is none.
func (g *goScan) end() found {
	g.out.packages = distinct(g.out.packages)
	return g.out
}
