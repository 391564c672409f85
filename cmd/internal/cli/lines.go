package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/reference"
)

// publishedLine is a tree that was published, or was there already.
type publishedLine struct {
	Source       string         `json:"source,omitempty"` // of sync, what the list names
	Kind         reference.Kind `json:"kind"`
	Name         string         `json:"name"`
	Version      string         `json:"version"`
	Path         string         `json:"path"`
	Tree         string         `json:"tree"`
	SourceDigest string         `json:"source_digest"`
	Revision     uint64         `json:"revision"`
	Unchanged    bool           `json:"unchanged"`
	DryRun       bool           `json:"dry_run,omitempty"`
	Entries      int64          `json:"entries"`
	Bytes        int64          `json:"bytes"`
	ObjectsNew   int64          `json:"objects_new"`
	BytesStored  int64          `json:"bytes_stored"`
	Attested     string         `json:"attested,omitempty"` // id of the key that signed a statement about it now
	Notes        []string       `json:"notes"`
}

func publishedOf(r *publisher.Result) publishedLine {
	return publishedLine{
		Kind: r.Reference.Kind, Name: r.Reference.Name, Version: r.Reference.Version, Path: r.Path, Tree: r.Tree,
		SourceDigest: r.Source, Revision: r.Revision, Unchanged: r.Unchanged, Entries: r.Entries, Bytes: r.Bytes,
		ObjectsNew: r.NewObjects, BytesStored: r.NewBytes, Attested: r.Attested, Notes: append([]string{}, r.Notes...),
	}
}

// printPublished tells people what a publish came to.
func printPublished(out io.Writer, r *publisher.Result) {
	for _, n := range r.Notes {
		fmt.Fprintf(out, "note: %s\n", n)
	}
	if r.Unchanged {
		fmt.Fprintf(out, "%s is published already with this content (tree %s): revision stays %d\n", r.Reference, r.Tree, r.Revision)
		return
	}
	if r.Known {
		fmt.Fprintf(out, "%s is published already with this content (tree %s); revision %d adds the statement of key %s\n", r.Reference, r.Tree, r.Revision, r.Attested)
		return
	}
	fmt.Fprintf(out, "published %s in revision %d\n", r.Reference, r.Revision)
	fmt.Fprintf(out, "  path %s\n  tree %s\n  %d entries, %s; new: %d objects, %s stored\n",
		r.Path, r.Tree, r.Entries, size(r.Bytes), r.NewObjects, size(r.NewBytes))
	if r.Attested != "" {
		fmt.Fprintf(out, "  statement signed by key %s\n", r.Attested)
	}
}

// removedLine is a version that is gone. Of an image without a tag kind, name
// and version are empty.
type removedLine struct {
	Kind      reference.Kind `json:"kind"`
	Name      string         `json:"name"`
	Version   string         `json:"version"`
	Path      string         `json:"path"`
	Tree      string         `json:"tree"`
	TreeStays bool           `json:"tree_stays"`
	Revision  uint64         `json:"revision"`
	DryRun    bool           `json:"dry_run,omitempty"`
}

func removedOf(r *publisher.Removed) removedLine {
	return removedLine{
		Kind: r.Reference.Kind, Name: r.Reference.Name, Version: r.Reference.Version,
		Path: r.Path, Tree: r.Tree, TreeStays: r.TreeStays, Revision: r.Revision,
	}
}

func movedOf(c *publisher.ChannelChange) moveLine {
	ref := c.Channel
	return moveLine{
		Kind: ref.Kind, Name: ref.Name, Channel: ref.Channel, From: c.From, To: c.To, Tree: c.Tree, Revision: c.Revision, Unchanged: c.Unchanged, Rollout: c.Rollout,
	}
}

// revised is what commands print that make a revision and have no more to tell.
type revised struct {
	Repository string `json:"repository,omitempty"`
	Revision   uint64 `json:"revision"`
}

// wantsJSON adds --json to a command and returns its value.
func wantsJSON(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("json", false, "one JSON object per line")
}
