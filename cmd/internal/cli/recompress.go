package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher"
)

func newRecompress() *cobra.Command {
	var f publishFlags
	var compression string
	cmd := &cobra.Command{
		Use:   "recompress --store STORE --keys DIR --compression zstd|zlib|none",
		Short: "Change the compression of all files, as one new revision",
		Long: `Store every file of the newest revision in another compression, which becomes the
repository's. Trees and their ids stay what they are. Cut short, it leaves the
repository at its last revision; started again, it goes on where it was. Older
revisions and tags keep their objects: rootstock gc removes what nobody needs.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			to, err := object.ParseCompression(compression)
			if err != nil {
				return misuse(cmd, "--compression: %w", err)
			}
			return f.recompress(cmd, to)
		},
	}
	cmd.Flags().StringVar(&f.store, "store", "", "directory of the repository, or s3://BUCKET/PREFIX")
	cmd.Flags().StringVar(&f.keys, "keys", "", "directory of FQRN.key and FQRN.crt")
	cmd.Flags().StringVar(&compression, "compression", "", "of files from now on: zstd, zlib or none")
	cmd.Flags().StringVar(&f.temp, "tmp", "", "directory for catalogs under work (default the system's)")
	cmd.Flags().StringVar(&f.index, "cache", indexDir(), "directory that remembers what is stored, to go on after an interruption; empty for none")
	cmd.Flags().IntVar(&f.workers, "workers", 0, "how many compress at once (default one per processor)")
	cmd.Flags().BoolVar(&f.json, "json", false, "one JSON object per line")
	cmd.Flags().BoolVar(&f.verbose, "verbose", false, "log each stage")
	required(cmd, "store", "keys", "compression")
	return cmd
}

func (f publishFlags) recompress(cmd *cobra.Command, to object.Compression) error {
	st, err := openStore(f.store)
	if err != nil {
		return err
	}
	name, err := publisher.RepositoryName(cmd.Context(), st)
	if err != nil {
		return fmt.Errorf("store %s: %w", f.store, err)
	}
	keys, err := manifest.ReadKeys(f.keys, name)
	if err != nil {
		return err
	}
	o := publisher.Options{Store: st, Keys: keys, TempDir: f.temp, IndexDir: f.index, Workers: f.workers}
	if f.verbose {
		o.Log = logger(cmd.ErrOrStderr(), true)
	}
	p, err := publisher.Open(cmd.Context(), o)
	if err != nil {
		return err
	}
	r, err := p.Recompress(cmd.Context(), to)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if f.json {
		return typed(out, "recompressed", struct {
			Repository  string `json:"repository"`
			Compression string `json:"compression"`
			Revision    uint64 `json:"revision"`
			Unchanged   bool   `json:"unchanged"`
			Contents    int64  `json:"contents"`
			ObjectsNew  int64  `json:"objects_new"`
			BytesStored int64  `json:"bytes_stored"`
		}{name, to.String(), r.Revision, r.Unchanged, int64(r.Contents), r.New, r.NewBytes})
	}
	if r.Unchanged {
		fmt.Fprintf(out, "%s is %s already; revision stays %d\n", name, to, r.Revision)
		return nil
	}
	fmt.Fprintf(out, "%s is %s in revision %d: %d contents, %d new objects, %s\n", name, to, r.Revision, r.Contents, r.New, size(r.NewBytes))
	fmt.Fprintln(out, readers(to))
	return nil
}
