package cli

import (
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/publisher"
)

// explanation is what `rootstock explain --json` prints.
type explanation struct {
	MessageType string            `json:"message_type"`
	Path        string            `json:"path"`
	Catalog     string            `json:"catalog"`
	Versions    []string          `json:"versions"`
	Tree        string            `json:"tree,omitempty"`
	Source      string            `json:"source_digest,omitempty"`
	Published   *time.Time        `json:"published,omitempty"`
	Type        string            `json:"type"`
	Mode        string            `json:"mode"`
	UID         uint32            `json:"uid"`
	GID         uint32            `json:"gid"`
	Size        int64             `json:"size"`
	MTime       time.Time         `json:"mtime"`
	Links       uint32            `json:"links"`
	Target      string            `json:"target,omitempty"`
	XAttrs      map[string]string `json:"xattrs,omitempty"` // values in hex
	SHA256      string            `json:"sha256,omitempty"`
	Compression string            `json:"compression,omitempty"`
	Objects     []objectLine      `json:"objects,omitempty"`
	SharedBy    []string          `json:"shared_by"`
}

type objectLine struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	Stored int64  `json:"stored"` // -1 if it is missing
}

func newExplain() *cobra.Command {
	var f readFlags
	cmd := &cobra.Command{
		Use:   "explain PATH --store STORE",
		Short: "Tell what a path is, where it came from, how it is stored and who shares it",
		Long: `Tell what a path is, where it came from, how it is stored and which other versions
share its content. PATH is one of the repository, as below its mountpoint, such
as /rootfs/cflinuxfs4/1.2/etc/passwd; it may lead through a channel, which is
/channels/rootfs/cflinuxfs4/stable, or an image's tag. Links on the way are followed, inside the tree they are in.`,
		Args: exactArgs("PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !strings.HasPrefix(args[0], "/") {
				return misuse(cmd, "%s is not absolute: want a path of the repository, such as /rootfs/NAME/VERSION/etc/passwd", args[0])
			}
			st, err := openStore(f.store)
			if err != nil {
				return err
			}
			x, err := publisher.Explain(cmd.Context(), st, f.temp, args[0])
			if err != nil {
				return err
			}
			e := explain(x)
			if f.json {
				return line(cmd.OutOrStdout(), e)
			}
			return e.print(cmd.OutOrStdout())
		},
	}
	f.add(cmd.Flags())
	required(cmd, "store")
	return cmd
}

func explain(x *publisher.Explained) explanation {
	e := explanation{
		MessageType: "path", Path: x.Path, Catalog: x.Catalog, Versions: references(x.Versions), SharedBy: references(x.SharedBy),
		Type: typeName(x.Entry.Mode), Mode: fmt.Sprintf("%04o", x.Entry.Mode&0o7777), UID: x.Entry.UID, GID: x.Entry.GID,
		Size: x.Entry.Size, Links: x.Entry.Links, Target: x.Entry.Symlink,
		MTime: time.Unix(x.Entry.MTime, int64(max(x.Entry.MTimeNS, 0))).UTC(),
	}
	if e.Path == "" {
		e.Path = "/"
	}
	if e.Catalog == "" {
		e.Catalog = "/"
	}
	if len(x.Versions) > 0 {
		v := x.Versions[0]
		e.Tree, e.Source, e.Published = v.Tree, v.Source, &v.Published
	}
	if !x.Content.IsZero() {
		e.SHA256 = x.Content.String()
	}
	for _, a := range x.Entry.XAttrs {
		if e.XAttrs == nil {
			e.XAttrs = map[string]string{}
		}
		e.XAttrs[a.Name] = hex.EncodeToString(a.Value)
	}
	for _, o := range x.Objects {
		e.Compression = x.Compression.String()
		e.Objects = append(e.Objects, objectLine(o))
	}
	return e
}

func references(all []publisher.Listed) []string {
	names := []string{}
	for _, t := range all {
		names = append(names, t.Reference.String())
	}
	return names
}

func typeName(mode uint32) string {
	switch mode & catalog.ModeType {
	case catalog.ModeDir:
		return "directory"
	case catalog.ModeSymlink:
		return "symlink"
	case catalog.ModeRegular:
		return "file"
	case catalog.ModeBlock:
		return "block device"
	case catalog.ModeChar:
		return "character device"
	case catalog.ModeFIFO:
		return "fifo"
	}
	return "socket"
}

// attribute is the value of an attribute, given in hex, for people: as text if it
// is some.
func attribute(inHex string) string {
	b, err := hex.DecodeString(inHex)
	if text := string(b); err == nil && text != "" && utf8.ValidString(text) && shown(text) == text {
		return text
	}
	return "0x" + inHex
}

func (e explanation) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	row("path", "%s", e.Path)
	if len(e.Versions) > 0 {
		row("version", "%s", strings.Join(e.Versions, " "))
		row("tree", "%s", e.Tree)
		row("source", "%s", e.Source)
		row("published", "%s", e.Published.Format(time.RFC3339))
	}
	row("catalog", "%s", e.Catalog)
	row("entry", "%s, mode %s, owner %d:%d, %d bytes, links %d, modified %s", e.Type, e.Mode, e.UID, e.GID, e.Size, e.Links, e.MTime.Format(time.RFC3339Nano))
	if e.Target != "" {
		row("target", "%s", e.Target)
	}
	for _, name := range slices.Sorted(maps.Keys(e.XAttrs)) {
		row("xattr", "%s = %s", name, attribute(e.XAttrs[name]))
	}
	if e.SHA256 != "" {
		row("sha256", "%s", e.SHA256)
	}
	for _, o := range e.Objects {
		stored := fmt.Sprintf("%d stored", o.Stored)
		if o.Stored < 0 {
			stored = "MISSING in the store"
		}
		row("object", "%s: %d bytes, %s, %s", o.Name, o.Size, e.Compression, stored)
	}
	if e.SHA256 != "" {
		shared := "no other version"
		if len(e.SharedBy) > 0 {
			shared = strings.Join(e.SharedBy, " ")
		}
		row("shared by", "%s", shared)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("explain: %w", err)
	}
	return nil
}
