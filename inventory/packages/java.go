package packages

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/rootstock-cf/rootstock/inventory"
)

// Bounds of an archive, in bytes where nothing else is said. Every entry of a
// zip costs memory before it can be looked at; the number of signatures bounds
// their number.
const (
	maxZipEntries = 200_000
	maxZipDepth   = 3        // an ear with a war with a jar
	maxInner      = 32 << 20 // of an archive in an archive
	maxUnpacked   = 256 << 20
	maxProperties = 64 << 10
)

var zipEntrySignature = []byte("PK\x01\x02")

// readJava reads the pom.properties that Maven puts into what it builds, in
// archives and in the archives within them.
func readJava(b []byte) (r found) {
	j := jar{left: maxUnpacked}
	j.read(b, "", 1)
	return found{packages: distinct(j.packages), gap: j.gap}
}

// jar is the state over an archive and all in it.
type jar struct {
	packages []inventory.Package
	gap      string
	left     int64 // bytes that may still be unpacked
}

// read looks through the zip in b, which lies at prefix in the file.
func (j *jar) read(b []byte, prefix string, depth int) {
	if n := bytes.Count(b, zipEntrySignature); n > maxZipEntries {
		j.miss(prefix, fmt.Errorf("more than %d entries", maxZipEntries))
		return
	}
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		j.miss(prefix, err)
		return
	}
	for _, f := range z.File {
		at := prefix + "!/" + f.Name
		switch {
		case strings.HasPrefix(f.Name, "META-INF/maven/") && strings.HasSuffix(f.Name, "/pom.properties"):
			if text, ok := j.unpack(f, at, maxProperties); ok {
				j.properties(text, at)
			}
		case isArchive(f.Name) && depth >= maxZipDepth:
			j.miss(at, fmt.Errorf("archives are nested deeper than %d", maxZipDepth))
		case isArchive(f.Name):
			if inner, ok := j.unpack(f, at, maxInner); ok {
				j.read(inner, at, depth+1)
			}
		}
	}
}

func (j *jar) unpack(f *zip.File, at string, limit int64) ([]byte, bool) {
	limit = min(limit, j.left)
	in, err := f.Open()
	if err != nil {
		j.miss(at, err)
		return nil, false
	}
	defer in.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(in, limit+1))
	j.left -= min(int64(len(b)), j.left)
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("larger than %d bytes, or the archive unpacks to more than %d", limit, int64(maxUnpacked))
	}
	if err != nil {
		j.miss(at, err)
		return nil, false
	}
	return b, true
}

// miss notes the first thing that was not read.
func (j *jar) miss(at string, err error) {
	if j.gap == "" {
		j.gap = reason(fmt.Errorf("%s: %w", strings.TrimPrefix(at, "!/"), err))
		j.gap = strings.TrimPrefix(j.gap, ": ")
	}
}

// properties reads the few lines Maven writes: key=value.
func (j *jar) properties(text []byte, at string) {
	values := map[string]string{}
	for line := range lines(text) {
		if k, v, ok := strings.Cut(string(line), "="); ok && !strings.HasPrefix(k, "#") {
			values[strings.TrimSpace(k)] = strings.TrimSpace(v)
		}
	}
	group, artifact := values["groupId"], values["artifactId"]
	p := inventory.Package{Ecosystem: inventory.Maven, Name: group + ":" + artifact, Version: values["version"], Path: at}
	if group == "" || artifact == "" || !proper(&p) || !plain(at, 4095) || len(j.packages) >= maxPackages {
		j.miss(at, errNotMaven)
		return
	}
	j.packages = append(j.packages, p)
}

var errNotMaven = fmt.Errorf("%s", strange)
