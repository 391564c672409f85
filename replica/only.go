package replica

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/store"
)

// treeAttr is the xattr of a tree's directory that holds its tree id
// (docs/design/repository.md).
const treeAttr = "user.rootstock.tree"

// selection is which paths of a repository are wanted. A nil selection wants
// all of them.
type selection struct{ paths []string }

// within reports whether name is root or below it.
func within(name, root string) bool {
	return name == root || strings.HasPrefix(name, root+"/")
}

// descend reports whether a catalog at name has anything that is wanted.
func (s *selection) descend(name string) bool {
	return s == nil || slices.ContainsFunc(s.paths, func(w string) bool { return within(name, w) || within(w, name) })
}

// onTheWay reports whether only some of what a catalog at name leads to is
// wanted, so that its presence says nothing of what is below it.
func (s *selection) onTheWay(name string) bool {
	return s != nil && !slices.ContainsFunc(s.paths, func(w string) bool { return within(name, w) })
}

// rows returns which rows of a catalog at root are wanted: all of them, or those
// in wanted directories and the markers, which all catalogs share.
func (s *selection) rows(ctx context.Context, c *catalog.Reader, root string) (func(*catalog.Row) bool, error) {
	if !s.onTheWay(root) {
		return func(*catalog.Row) bool { return true }, nil
	}
	wanted := map[catalog.PathKey]bool{}
	for _, w := range s.paths {
		wanted[catalog.KeyOf(w)] = true
	}
	parent := map[catalog.PathKey]catalog.PathKey{}
	if err := c.Scan(ctx, func(row catalog.Row) error {
		if row.IsDir() {
			parent[row.Key] = row.Parent
		}
		return nil
	}); err != nil {
		return nil, err
	}
	return func(row *catalog.Row) bool {
		if row.Name == ".cvmfscatalog" || wanted[row.Key] {
			return true
		}
		for at, steps := row.Parent, 0; steps < len(parent)+1; steps++ { // rows may form a ring
			if wanted[at] {
				return true
			}
			up, ok := parent[at]
			if !ok {
				return false
			}
			at = up
		}
		return false
	}, nil
}

// selectTrees finds what the references to be copied mean in the revision at
// root: the trees, and what lies beside them for our cells.
func (p *pull) selectTrees(ctx context.Context, root object.Hash, size int64) (*selection, error) {
	f := &finder{p: p, catalogs: []catalog.Nested{{Hash: root, Size: size}}}
	s := &selection{}
	for _, only := range p.o.Only {
		paths, err := f.trees(ctx, only)
		if err != nil {
			return nil, fmt.Errorf("--only %s: %w", only, err)
		}
		if len(paths) == 0 {
			return nil, fmt.Errorf("--only %s: the source has no such tree", only)
		}
		s.paths = append(s.paths, paths...)
	}
	return s, nil
}

// finder looks up directories in the source's catalogs.
type finder struct {
	p        *pull
	catalogs []catalog.Nested // the chain that was walked last, root first
}

// trees returns the paths that belong to a reference.
func (f *finder) trees(ctx context.Context, only reference.Reference) (paths []string, err error) {
	dir := only.VersionsDir()
	rows, err := f.list(ctx, dir)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		version, ok := only.VersionOf(row.Name)
		if !ok || only.Version != "" && version != only.Version {
			continue
		}
		at := dir + "/" + row.Name
		dirRow := row
		if row.IsSymlink() { // an image's tag
			if at = path.Join(dir, row.Symlink); !within(at, "/.flat") {
				continue
			}
			beside, err := f.list(ctx, catalog.Parent(at))
			if err != nil {
				return nil, err
			}
			i := slices.IndexFunc(beside, func(r catalog.Row) bool { return r.Name == path.Base(at) })
			if i < 0 {
				return nil, fmt.Errorf("%s leads to %s, which is not there", dir+"/"+row.Name, at)
			}
			dirRow = beside[i]
			hex := path.Base(at)
			paths = append(paths, "/.rootstock/images/"+hex[:min(2, len(hex))]+"/"+hex)
		}
		if !dirRow.IsDir() {
			continue
		}
		paths = append(paths, at)
		for _, x := range dirRow.XAttrs {
			if id := string(x.Value); x.Name == treeAttr && len(id) > 2 {
				paths = append(paths, "/.rootstock/trees/"+id[:2]+"/"+id, "/.rootstock/notes/"+id[:2]+"/"+id)
			}
		}
	}
	return paths, nil
}

// list returns the rows of a directory.
func (f *finder) list(ctx context.Context, dir string) (rows []catalog.Row, err error) {
	f.catalogs = f.catalogs[:1]
	for {
		at := f.catalogs[len(f.catalogs)-1]
		c, err := f.open(ctx, at)
		if err != nil {
			return nil, err
		}
		nested, err := c.Nested()
		rows = rows[:0]
		if err == nil {
			err = c.Scan(ctx, func(row catalog.Row) error {
				if row.Parent == catalog.KeyOf(dir) && row.Key != catalog.KeyOf("") {
					rows = append(rows, row)
				}
				return nil
			})
		}
		if cerr := c.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(nested, func(n catalog.Nested) bool { return within(dir, n.Path) })
		if i < 0 {
			return rows, nil
		}
		if len(nested[i].Path) <= len(at.Path) {
			return nil, fmt.Errorf("%w: the catalog at %q leads to one at %q", catalog.ErrInvalid, at.Path, nested[i].Path)
		}
		f.catalogs = append(f.catalogs, nested[i])
	}
}

func (f *finder) open(ctx context.Context, n catalog.Nested) (*catalog.Reader, error) {
	limit := int64(maxCatalog)
	if n.Size > 0 {
		limit = min(limit, n.Size)
	}
	file := filepath.Join(f.p.dir, "way-"+n.Hash.String())
	if _, err := os.Stat(file); err != nil {
		if err := f.p.plain(ctx, ref{n.Hash, object.Catalog}, limit, file); err != nil {
			return nil, err
		}
	}
	return catalog.OpenReader(file)
}

// partial is the content of the file that says that a replica has only some
// trees. Without it a catalog in the store means that all below it is there.
type partial struct {
	Only []string `json:"only"`
}

func texts(only []reference.Reference) []string {
	var all []string
	for _, r := range only {
		all = append(all, r.String())
	}
	slices.Sort(all)
	return all
}

func readOnly(ctx context.Context, st store.Getter) ([]string, error) {
	raw, err := readRoot(ctx, st, partialFile, maxRootFile)
	if err != nil || raw == nil {
		return nil, err
	}
	var f partial
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, fmt.Errorf("%s: %w", partialFile, err)
	}
	return f.Only, nil
}
