package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/manifest/attest"
	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/reference"
)

type verifyFlags struct {
	readFlags
	i        imageFlags
	keys     []string
	require  int
	source   string
	noSource bool
	quiet    bool
}

func newVerify() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify KIND/NAME[@VERSION|:CHANNEL] --store STORE|URL --key FILE.pub… [--require K] [--source SOURCE | --no-source]",
		Short: "Prove that a tree is what its source comes to, and that enough signers say so",
		Long: `Ask for the statements that rootstock publish --attest and rootstock attest file
about a tree: at least --require of the keys given must have signed that it is this
tree that they derived under this name. Then derive it once more, here, from the
source, publishing and extracting nothing, and compare.

An image is fetched from where the signers say they had it, by its digest. Other
sources, and an image that has moved, are named with --source, written as for
rootstock publish KIND. --no-source counts signers only.

This says what a tree is. That a store holds all of it is for rootstock check.`,
		Args: exactArgs("KIND/NAME[@VERSION|:CHANNEL]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := parseReference(cmd, args[0])
			if err != nil {
				return err
			}
			return f.run(cmd, ref)
		},
	}
	f.add(cmd.Flags())
	f.i.add(cmd.Flags())
	cmd.Flags().StringArrayVar(&f.keys, "key", nil, "FILE, public key or certificate of a signer who counts; may be repeated")
	cmd.Flags().IntVar(&f.require, "require", 0, "how many of them must have signed (default all)")
	cmd.Flags().StringVar(&f.source, "source", "", "what it was published from, to derive it from again")
	cmd.Flags().BoolVar(&f.noSource, "no-source", false, "do not derive it again, count signers only")
	cmd.Flags().BoolVar(&f.quiet, "quiet", false, "print errors only")
	required(cmd, "store", "key")
	return cmd
}

// signerLine is a line of `rootstock verify --json`: what one signer says.
type signerLine struct {
	Key          string     `json:"key"`
	File         string     `json:"file"`
	Signed       bool       `json:"signed"`
	Error        string     `json:"error,omitempty"` // why not
	Derived      *time.Time `json:"derived,omitempty"`
	Source       string     `json:"source,omitempty"`
	SourceDigest string     `json:"source_digest,omitempty"`
}

// verifiedLine is the last line: it is there only if all holds.
type verifiedLine struct {
	Name         string `json:"name"`
	Tree         string `json:"tree"`
	Signers      int    `json:"signers"`
	Required     int    `json:"required"`
	Source       string `json:"source,omitempty"` // it was derived from; with --no-source none
	SourceDigest string `json:"source_digest,omitempty"`
}

func (f *verifyFlags) run(cmd *cobra.Command, ref reference.Reference) error {
	keys, err := readSignerKeys(f.keys)
	if err != nil {
		return err
	}
	switch {
	case !cmd.Flags().Changed("require"):
		f.require = len(keys)
	case f.require < 1 || f.require > len(keys):
		return misuse(cmd, "--require %d: want 1 to %d, as many different keys as --key names", f.require, len(keys))
	}
	if f.noSource && f.source != "" {
		return misuse(cmd, "--source and --no-source exclude each other")
	}
	o, err := f.i.options(cmd, f.temp)
	if err != nil {
		return err
	}
	r, err := openReader(cmd.Context(), f.store, f.temp)
	if err != nil {
		return err
	}
	defer r.Close()
	t, err := r.Find(cmd.Context(), ref)
	if err != nil {
		return err
	}
	said, err := f.count(cmd, r, t, keys)
	if err != nil {
		return fmt.Errorf("verify %s: %w", t.Reference, err)
	}
	done := verifiedLine{Name: t.Reference.String(), Tree: t.Tree, Signers: len(said), Required: f.require}
	if !f.noSource {
		if done.Source, err = f.where(cmd, t, said, &o); err != nil {
			return err
		}
		src, _, err := derive(cmd, f.quiet, f.json, t, done.Source, o)
		if errors.Is(err, errDiffers) {
			return fmt.Errorf("verify %s: %w; the source has changed, or this is another one, or what was published is not what it says", t.Reference, err)
		} else if err != nil {
			return fmt.Errorf("verify %s: %d of %d signers, but the tree could not be derived again: %w; name the source where it can be read with --source, or count signers only with --no-source",
				t.Reference, len(said), len(keys), err)
		}
		done.SourceDigest = src.Digest
	}
	return f.done(cmd, &done)
}

// count asks what the signers say, and whether they are enough.
func (f *verifyFlags) count(cmd *cobra.Command, r *publisher.Reader, t publisher.Listed, keys []signerKey) (said []*attest.Statement, err error) {
	out := cmd.OutOrStdout()
	if f.quiet && !f.json {
		out = io.Discard
	}
	if !f.json {
		fmt.Fprintf(out, "%s is tree %s\n", t.Reference, t.Tree)
	}
	others, err := r.Signers(cmd.Context(), t)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		others = slices.DeleteFunc(others, func(id string) bool { return id == k.ID })
		l := signerLine{Key: k.ID, File: k.file}
		st, err := r.Statement(cmd.Context(), t, k.Key)
		if cmd.Context().Err() != nil {
			return nil, cmd.Context().Err()
		}
		if err == nil {
			said = append(said, st)
			l.Signed, l.Derived, l.Source, l.SourceDigest = true, &st.Derived, st.Source.Name, st.Source.Digest
		} else {
			l.Error = err.Error()
		}
		switch {
		case f.json:
			if err := typed(out, "signer", l); err != nil {
				return nil, err
			}
		case l.Signed:
			fmt.Fprintf(out, "  %s signed on %s: derived from %s (%s)\n", l.File, l.Derived.UTC().Format(time.RFC3339), shown(l.Source), shown(l.SourceDigest))
		default:
			fmt.Fprintf(out, "  %s does not count: %s\n", l.File, l.Error)
		}
	}
	if len(said) < f.require {
		text := ""
		if len(others) > 0 {
			text = fmt.Sprintf("; keys that were not given have signed something: %s", strings.Join(others[:min(len(others), 5)], ", "))
		}
		return nil, fmt.Errorf("%d of %d signers, %d are required: rootstock attest %s SOURCE --key … makes a statement%s",
			len(said), len(keys), f.require, t.Reference, text)
	}
	return said, nil
}

// where is the source to derive the tree from: the one named, or the image that
// the signers had, by its digest.
func (f *verifyFlags) where(cmd *cobra.Command, t publisher.Listed, said []*attest.Statement, o *source.Options) (string, error) {
	if !cmd.Flags().Changed("platform") && said[0].Source.Platform != "" {
		o.Platform = said[0].Source.Platform
	}
	if f.source != "" {
		return f.source, nil
	}
	for _, st := range said {
		if spec, ok := pinned(st.Source); ok {
			return spec, nil
		}
	}
	return "", misuse(cmd, "%s was published from %s (%s), which cannot be fetched by name: say --source, or --no-source to count signers only",
		t.Reference, shown(said[0].Source.Name), shown(said[0].Source.Digest))
}

// pinned is where an image in a registry is, by its digest.
func pinned(s attest.Source) (spec string, ok bool) {
	rest, ok := strings.CutPrefix(s.Name, "docker://")
	if !ok || !strings.HasPrefix(s.Digest, "sha256:") {
		return "", false
	}
	rest, _, _ = strings.Cut(rest, "@")
	if colon := strings.LastIndexByte(rest, ':'); colon > strings.LastIndexByte(rest, '/') {
		rest = rest[:colon]
	}
	return "docker://" + rest + "@" + s.Digest, true
}

func (f *verifyFlags) done(cmd *cobra.Command, v *verifiedLine) error {
	out := cmd.OutOrStdout()
	if f.json {
		return typed(out, "verified", v)
	}
	if f.quiet {
		return nil
	}
	if v.Source != "" {
		fmt.Fprintf(out, "  derived here from %s (%s): the same tree\n", v.Source, v.SourceDigest)
	}
	_, err := fmt.Fprintf(out, "verified: %d signers, %d required\n", v.Signers, v.Required)
	return err
}
