package packages

import (
	"strings"

	"github.com/rootstock-cf/rootstock/inventory"
)

// readerID says which reader understands a file.
type readerID uint8

const (
	none       readerID = iota
	unreadable          // known to hold packages, in a format that is not read
	osRelease
	dpkgStatus
	apkInstalled
	receipt
	buildpack
	npm
	python
	ruby
	java
	goBinary
	stagingInfo
	depsConfig
)

// reader is a kind of file. limit bounds its size in bytes.
type reader struct {
	ecosystem inventory.Ecosystem
	limit     int64
	stream    bool // its bytes need not be held
	parse     func([]byte) found
}

var readers = [...]reader{
	osRelease:    {inventory.Generic, 64 << 10, false, readOSRelease},
	dpkgStatus:   {inventory.Deb, 64 << 20, false, readDpkg},
	apkInstalled: {inventory.APK, 64 << 20, false, readAPK},
	receipt:      {inventory.Deb, 4 << 20, false, readReceipt},
	buildpack:    {inventory.Generic, 1 << 20, false, readBuildpack},
	npm:          {inventory.NPM, 4 << 20, false, readNPM},
	python:       {inventory.PyPI, 4 << 20, false, readPython},
	ruby:         {inventory.Gem, 1 << 20, false, readRuby},
	java:         {inventory.Maven, 64 << 20, false, readJava},
	goBinary:     {inventory.Golang, 1 << 40, true, nil},
	stagingInfo:  {inventory.Generic, 1 << 20, false, readStagingInfo},
	depsConfig:   {inventory.Generic, 1 << 20, false, readDepsConfig},
}

// manifestPath is where a buildpack's manifest lies.
const manifestPath = "manifest.yml"

// exact are the files that lie in one place.
var exact = map[string]readerID{
	"etc/os-release":           osRelease,
	"usr/lib/os-release":       osRelease,
	"var/lib/dpkg/status":      dpkgStatus,
	"lib/apk/db/installed":     apkInstalled,
	"usr/lib/apk/db/installed": apkInstalled,
	manifestPath:               buildpack,
	"staging_info.yml":         stagingInfo, // of a droplet

	// No reader of rpm's databases in Go is kept up: the one there is was
	// last released in 2024 and needs a second SQLite.
	"var/lib/rpm/Packages":                     unreadable,
	"var/lib/rpm/Packages.db":                  unreadable,
	"var/lib/rpm/rpmdb.sqlite":                 unreadable,
	"usr/lib/sysimage/rpm/Packages":            unreadable,
	"usr/lib/sysimage/rpm/Packages.db":         unreadable,
	"usr/lib/sysimage/rpm/rpmdb.sqlite":        unreadable,
	"usr/share/rpm/rpmdb.sqlite":               unreadable,
	"var/lib/rpmmanifest/container-manifest-2": unreadable,
}

// classify says which reader a regular file is for, by its name.
func classify(path string, mode uint32) readerID {
	if id, ok := exact[path]; ok {
		return id
	}
	dir, base := cutLast(path)
	switch {
	case dir == "var/lib/dpkg/status.d":
		if strings.HasSuffix(base, ".md5sums") {
			return none
		}
		return dpkgStatus
	case base == "package.json":
		if inNodeModules(dir) {
			return npm
		}
	case base == "METADATA":
		if strings.HasSuffix(dir, ".dist-info") {
			return python
		}
	case base == "PKG-INFO":
		if strings.HasSuffix(dir, ".egg-info") {
			return python
		}
	case strings.HasSuffix(base, ".egg-info"):
		return python
	case strings.HasSuffix(base, ".gemspec"):
		if _, parent := cutLast(dir); parent == "specifications" || strings.HasSuffix(dir, "/specifications/default") {
			return ruby
		}
	case isArchive(base):
		return java
	case strings.HasPrefix(base, "receipt.cflinuxfs"):
		return receipt
	case base == "config.yml" && strings.HasPrefix(dir, "deps/") && strings.Count(dir, "/") == 1:
		return depsConfig
	case base == "receipt":
		if _, parent := cutLast(dir); strings.HasPrefix(parent, "cflinuxfs") {
			return receipt
		}
	}
	if mode&0o111 != 0 {
		return goBinary
	}
	return none
}

// Wanted reports whether a regular file of that name may say something.
func Wanted(path string, mode uint32) bool { return classify(path, mode) != none }

// inNodeModules reports whether dir is node_modules/NAME or
// node_modules/@SCOPE/NAME.
func inNodeModules(dir string) bool {
	dir, name := cutLast(dir)
	if strings.HasPrefix(name, ".") || name == "" {
		return false
	}
	above, parent := cutLast(dir)
	if strings.HasPrefix(parent, "@") {
		_, parent = cutLast(above)
	}
	return parent == "node_modules"
}

func isArchive(base string) bool {
	for _, ext := range []string{".jar", ".war", ".ear"} {
		if len(base) > len(ext) && strings.EqualFold(base[len(base)-len(ext):], ext) {
			return true
		}
	}
	return false
}

// cutLast splits a path at its last slash.
func cutLast(path string) (dir, base string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}

// readerEcosystem is what packages a file would have named.
func readerEcosystem(id readerID) inventory.Ecosystem {
	if id == unreadable {
		return inventory.RPM
	}
	return readers[id].ecosystem
}
