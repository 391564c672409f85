package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/manifest/attest"
	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/publisher/source"
	"github.com/rootstock-cf/rootstock/reference"
)

// attestFlags are those of commands that publish and may sign what they did.
type attestFlags struct {
	on  bool
	key string
}

func (a *attestFlags) add(p *pflag.FlagSet) {
	p.BoolVar(&a.on, "attest", false, "sign a statement that the source comes to this tree, with the release key")
	p.StringVar(&a.key, "attest-key", "", "private key (PEM, Ed25519 or RSA) to sign the statement with instead")
}

// signer is who signs, nil for nobody.
func (a *attestFlags) signer(keys *manifest.Keys) (*attest.Signer, error) {
	switch {
	case a.key != "":
		return readSigner(a.key)
	case a.on:
		return attest.NewSigner(keys.Release)
	}
	return nil, nil
}

func readSigner(file string) (*attest.Signer, error) {
	private, err := manifest.ReadSigner(file)
	if err != nil {
		return nil, err
	}
	s, err := attest.NewSigner(private)
	if err != nil {
		return nil, fmt.Errorf("private key %s: %w", file, err)
	}
	return s, nil
}

// signerKey is a public key of whom statements are asked, and its file.
type signerKey struct {
	attest.Key
	file string
}

// readSignerKeys reads public keys, each once.
func readSignerKeys(files []string) ([]signerKey, error) {
	var all []signerKey
	met := map[string]bool{}
	for _, file := range files {
		public, err := manifest.ReadVerifiers(file)
		if err != nil {
			return nil, err
		}
		for _, p := range public {
			k, err := attest.KeyOf(p)
			if err != nil {
				return nil, fmt.Errorf("public key %s: %w", file, err)
			}
			if !met[k.ID] {
				met[k.ID] = true
				all = append(all, signerKey{k, file})
			}
		}
	}
	return all, nil
}

type signFlags struct {
	writeFlags
	i        imageFlags
	key, add string
	by       []string
	json     bool
}

func newAttest() *cobra.Command {
	var f signFlags
	cmd := &cobra.Command{
		Use:   "attest KIND/NAME@VERSION (SOURCE --key FILE | --add FILE --signer FILE.pub) --store STORE|URL",
		Short: "Sign that a source comes to a published tree, or file what somebody else signed",
		Long: `Derive the tree from its source, as publishing would, and sign a statement that
it is the one published: the second pair of eyes, on a machine of its own. Nothing
is published and nothing is extracted. SOURCE is written as for rootstock publish
KIND. The statement goes to standard output, from where whoever publishes files it
with --add; with --keys, the repository's, it is filed at once.

--add FILE files statements, one per line, that the keys in --signer signed, as a
revision in which nothing else changes. rootstock verify asks for them.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return misuse(cmd, "%s takes KIND/NAME@VERSION and SOURCE, or --add FILE, not %d arguments", cmd.CommandPath(), len(args))
			}
			ref, err := parseReference(cmd, args[0])
			switch {
			case err != nil:
				return err
			case f.add != "" && (len(args) > 1 || f.key != ""):
				return misuse(cmd, "--add files what is signed already; it takes no SOURCE and no --key")
			case f.add != "" && (len(f.by) == 0 || f.keys == ""):
				return misuse(cmd, "--add needs --signer FILE.pub, to know whose it is, and --keys DIR, to make a revision")
			case f.add != "":
				return f.file(cmd, ref)
			case len(args) < 2 || f.key == "":
				return misuse(cmd, "want SOURCE and --key FILE, to derive the tree and sign, or --add FILE")
			}
			return f.sign(cmd, ref, args[1])
		},
	}
	f.flags(cmd.Flags())
	required(cmd, "store")
	return cmd
}

func (f *signFlags) flags(p *pflag.FlagSet) {
	f.writeFlags.add(p)
	f.i.add(p)
	p.StringVar(&f.key, "key", "", "private key to sign with: PEM, Ed25519 or RSA")
	p.StringVar(&f.add, "add", "", "FILE of statements to file, - for standard input")
	p.StringArrayVar(&f.by, "signer", nil, "FILE.pub, public key of who signed what --add names; may be repeated")
	p.BoolVar(&f.json, "json", false, "one JSON object per line")
}

// sign derives the tree and signs.
func (f *signFlags) sign(cmd *cobra.Command, ref reference.Reference, spec string) error {
	ctx := cmd.Context()
	signer, err := readSigner(f.key)
	if err != nil {
		return err
	}
	o, err := f.i.options(cmd, f.temp)
	if err != nil {
		return err
	}
	r, err := openReader(ctx, f.store, f.temp)
	if err != nil {
		return err
	}
	defer r.Close()
	t, err := r.Find(ctx, ref)
	if err != nil {
		return err
	}
	src, d, err := derive(cmd, false, f.json, t, spec, o)
	if err != nil {
		return err
	}
	line, err := signer.Sign(publisher.StatementOf(t.Reference, src, d.Tree, time.Now()))
	if err != nil {
		return err
	}
	if f.keys == "" {
		if f.json {
			return typed(cmd.OutOrStdout(), "attested", attestedLine{
				Name: t.Reference.String(), Tree: t.Tree, Signer: signer.ID, SourceDigest: src.Digest, Statement: line,
			})
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", line)
		return err
	}
	return f.put(cmd, t.Reference, line, signer.Key)
}

// attestedLine is a line of `rootstock attest --json`.
type attestedLine struct {
	Name         string          `json:"name"`
	Tree         string          `json:"tree"`
	Signer       string          `json:"signer"`
	Revision     uint64          `json:"revision,omitempty"` // 0 if it is not filed
	SourceDigest string          `json:"source_digest,omitempty"`
	Statement    json.RawMessage `json:"statement,omitempty"`
}

// put files a statement.
func (f *signFlags) put(cmd *cobra.Command, ref reference.Reference, line []byte, key attest.Key) error {
	p, err := f.open(cmd.Context())
	if err != nil {
		return err
	}
	a, err := p.AddStatement(cmd.Context(), ref, line, key)
	if err != nil {
		return err
	}
	if f.json {
		return typed(cmd.OutOrStdout(), "attested", attestedLine{Name: a.Reference.String(), Tree: a.Tree, Signer: a.Signer, Revision: a.Revision})
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s, tree %s: statement of key %s is in revision %d\n", a.Reference, a.Tree, a.Signer, a.Revision)
	return err
}

// file files what somebody else signed.
func (f *signFlags) file(cmd *cobra.Command, ref reference.Reference) error {
	keys, err := readSignerKeys(f.by)
	if err != nil {
		return err
	}
	in := cmd.InOrStdin()
	if f.add != "-" {
		file, err := os.Open(f.add)
		if err != nil {
			return fmt.Errorf("--add: %w", err)
		}
		defer file.Close() //nolint:errcheck // only read
		in = file
	}
	n := 0
	for dec := json.NewDecoder(io.LimitReader(in, attest.MaxBundle)); ; n++ {
		var line json.RawMessage
		if err := dec.Decode(&line); errors.Is(err, io.EOF) && n > 0 {
			return nil
		} else if err != nil {
			return fmt.Errorf("--add %s: no statement of at most %d bytes: %w", f.add, attest.MaxBundle, err)
		}
		k, err := whose(line, keys)
		if err != nil {
			return fmt.Errorf("--add %s: %w", f.add, err)
		}
		if err := f.put(cmd, ref, line, k); err != nil {
			return err
		}
	}
}

// whose finds the key that signed an envelope.
func whose(line []byte, keys []signerKey) (attest.Key, error) {
	var errs []error
	for _, k := range keys {
		_, err := attest.Open(line, k.Key)
		if err == nil {
			return k.Key, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", k.file, err))
	}
	return attest.Key{}, errors.Join(errs...)
}

// errDiffers reports a source that does not come to the tree that is there.
var errDiffers = errors.New("not what is published")

// derive reads a source to its end and compares what it comes to with what is
// published. The source is returned closed, for what is known of it.
func derive(cmd *cobra.Command, quiet, asJSON bool, t publisher.Listed, spec string, o source.Options) (src *source.Source, d *publisher.Derived, err error) {
	if src, err = openSource(cmd, t.Reference.Kind, spec, o); err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	var read source.Progress
	line := tell(cmd, quiet, asJSON, reading("deriving", &read))
	d, err = publisher.Derive(cmd.Context(), src, &read)
	line.End()
	if err != nil {
		return src, nil, err
	}
	if d.Tree.String() != t.Tree {
		return src, d, fmt.Errorf("%w: %s (%s) comes to tree %s, %s is tree %s", errDiffers, spec, src.Digest, d.Tree, t.Reference, t.Tree)
	}
	return src, d, nil
}

// openSource opens a source of one kind, as the command that publishes it does.
func openSource(cmd *cobra.Command, kind reference.Kind, spec string, o source.Options) (*source.Source, error) {
	ctx := cmd.Context()
	switch {
	case kind == reference.Images || kind == reference.Rootfs && source.IsImage(spec):
		return source.OpenImage(ctx, spec, o)
	case kind == reference.Rootfs:
		return source.OpenRootfs(ctx, spec, o)
	case kind == reference.Buildpacks:
		return source.OpenBuildpack(ctx, spec, o)
	}
	return source.OpenDir(ctx, spec, o)
}
