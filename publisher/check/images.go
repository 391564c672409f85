package check

import (
	"context"
	"encoding/json"
	"path"
	"strings"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/object"
)

// maxImage bounds an image's description, in bytes: twice what a registry
// gives as manifest and configuration.
const maxImage = 64 << 20

// description is what of image.json other files must agree with.
type description struct {
	Tree         string          `json:"tree"`
	ConfigDigest string          `json:"config_digest"`
	Config       json.RawMessage `json:"config"`
}

// images checks each image's description against its tree.
func (c *checker) images(ctx context.Context, files map[string]*catalog.Entry, nodes []*node) {
	trees := map[string]*node{}
	for _, n := range nodes {
		trees[n.path] = n
		if dir, hex, ok := flat(n.path); ok && c.ours {
			at1 := imagesDir + dir + "/" + hex + "/image.json"
			if files[at1] == nil {
				c.find(Image, at{path: n.path}, "there is no description of it at %s", at1)
			}
		}
	}
	for _, p := range sortedPaths(files) {
		rest, ok := strings.CutPrefix(p, imagesDir)
		if !ok {
			continue
		}
		hex := base(path.Dir(rest))
		if rest != hex[:min(2, len(hex))]+"/"+hex+"/image.json" {
			continue
		}
		raw, err := c.file(ctx, files[p], maxImage)
		if err != nil {
			c.unreadable(Image, at{path: p}, err)
			continue
		}
		c.image(p, hex, raw, trees[flatDir+hex[:2]+"/"+hex])
	}
}

// flat takes the path of a flattened image apart.
func flat(p string) (dir, hex string, ok bool) {
	rest, ok := strings.CutPrefix(p, flatDir)
	if !ok {
		return "", "", false
	}
	dir, hex, ok = strings.Cut(rest, "/")
	return dir, hex, ok && !strings.Contains(hex, "/")
}

func (c *checker) image(p, hex string, raw []byte, tree *node) {
	here := at{path: p}
	var d description
	if err := json.Unmarshal(raw, &d); err != nil {
		c.find(Image, here, "%v", err)
		return
	}
	if d.ConfigDigest != "sha256:"+hex {
		c.find(Image, here, "it describes %s", d.ConfigDigest)
	}
	if len(d.Config) == 0 {
		c.find(Image, here, "it has no configuration")
	}
	if _, err := object.ParseContentID(d.Tree); err != nil {
		c.find(Image, here, "tree %q is no tree id", d.Tree)
		return
	}
	if tree != nil && d.Tree != tree.tree.String() {
		c.find(Image, here, "it says tree %s, at %s is tree %s", d.Tree, tree.path, tree.tree)
	}
}

// links checks that the names of images and channels lead to trees. Only names
// of ours are: whoever else writes into the repository links as they like.
func (c *checker) links(s start) {
	if !c.ours {
		return
	}
	trees := map[string]bool{}
	each(s.node, func(n *node) {
		if !n.tree.IsZero() {
			trees[n.path] = true
		}
	})
	each(s.node, func(n *node) {
		for _, l := range n.links {
			target := l.target
			if !strings.HasPrefix(target, "/") {
				target = path.Join(path.Dir(l.path), target)
			}
			_, _, image := flat(target)
			if !image && !strings.HasPrefix(l.path, channelsDir) || trees[target] {
				continue
			}
			c.find(Link, at{path: l.path}, "it leads to %s, where no tree is", target)
		}
	})
}
