package revision

import (
	"cmp"
	"slices"

	"github.com/rootstock-cf/rootstock/imagemeta"
)

// DefaultMaxWeight is how many entries one catalog of a tree holds before sub
// directories get catalogs of their own. Stock CernVM-FS splits at the same
// number (CVMFS-FORMAT 5.3); its tools complain at 500,000.
const DefaultMaxWeight = 100_000

// leastPart of the maximum is what a directory must hold to be worth a catalog,
// which costs a client one more request: a hundredth, as in stock.
const leastPart = 100

// branch is a directory on the way from the root to where a listing is.
type branch struct {
	path    string
	weight  int         // entries of its catalog, itself included, what was cut off not
	subdirs []candidate // those heavy enough
}

// candidate is a directory that could get a catalog of its own.
type candidate struct {
	path   string
	weight int
}

// split returns the directories of a listing that get catalogs of their own,
// so that no catalog holds more than most entries if that can be had without
// catalogs of fewer than least. Bottom-up, a directory that is too heavy
// gives away its heaviest sub directories until half of most is left: the next
// entry should not be the next catalog. The result depends on the listing
// alone.
func split(entries []imagemeta.Entry, most, least int) map[string]bool {
	if len(entries) <= most {
		return nil
	}
	cuts := map[string]bool{}
	var way []branch
	// closeLast is called when all that lies in the innermost directory is known.
	closeLast := func() {
		d := way[len(way)-1]
		way = way[:len(way)-1]
		if d.weight > most {
			d.weight = d.lighten(most/2, cuts)
		}
		if len(way) == 0 {
			return
		}
		parent := &way[len(way)-1]
		parent.weight += d.weight
		if d.weight >= least {
			parent.subdirs = append(parent.subdirs, candidate{d.path, d.weight})
		}
	}
	for i := range entries {
		e := &entries[i]
		for len(way) > 0 && !below(e.Path, way[len(way)-1].path) {
			closeLast()
		}
		if e.IsDir() {
			way = append(way, branch{path: e.Path, weight: 1})
			continue
		}
		if len(way) > 0 {
			way[len(way)-1].weight++
		}
	}
	for len(way) > 0 {
		closeLast()
	}
	return cuts
}

// lighten cuts off d's heaviest sub directories until its weight is target or
// less, and returns what is left. A mountpoint's row stays behind.
func (d *branch) lighten(target int, cuts map[string]bool) int {
	slices.SortFunc(d.subdirs, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.path, b.path))
	})
	for _, c := range d.subdirs {
		if d.weight <= target {
			break
		}
		cuts[c.path] = true
		d.weight -= c.weight - 1
	}
	return d.weight
}

// below reports whether path, relative to a tree's root, lies below dir.
func below(path, dir string) bool {
	if dir == "" {
		return path != ""
	}
	return len(path) > len(dir) && path[len(dir)] == '/' && path[:len(dir)] == dir
}
