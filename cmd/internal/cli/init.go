package cli

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/publisher"
)

type initFlags struct {
	store, name, keys, compression, hash string
	json                                 bool
}

func newInit() *cobra.Command {
	var f initFlags
	cmd := &cobra.Command{
		Use:   "init --store STORE --name FQRN --keys DIR",
		Short: "Make a repository: keys, whitelist, first revision",
		Long: `Make a repository: a master key and a release key (RSA-4096), a certificate, a
whitelist valid for 30 days, and a first, empty revision. Nothing that exists is
ever replaced; keys that DIR already holds for FQRN are used as they are.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runInit(cmd, f) },
	}
	cmd.Flags().StringVar(&f.store, "store", "", "directory, or s3://BUCKET/PREFIX, that is to hold the repository")
	cmd.Flags().StringVar(&f.name, "name", "", "fully qualified repository name, such as rootfs.example.org")
	cmd.Flags().StringVar(&f.keys, "keys", "", "directory of the keys")
	cmd.Flags().StringVar(&f.compression, "compression", object.Zstd.String(), "of files: zstd, zlib or none")
	cmd.Flags().StringVar(&f.hash, "hash", object.SHAKE128.String(), "that names objects: shake128, sha1 or rmd160")
	cmd.Flags().BoolVar(&f.json, "json", false, "one JSON object per line")
	required(cmd, "store", "name", "keys")
	return cmd
}

func runInit(cmd *cobra.Command, f initFlags) error {
	var s publisher.Settings
	var err error
	if s.Compression, err = object.ParseCompression(f.compression); err != nil {
		return misuse(cmd, "--compression: %w", err)
	}
	if s.Algorithm, err = object.ParseAlgorithm(f.hash); err != nil {
		return misuse(cmd, "--hash: %w", err)
	}
	if err := manifest.CheckName(f.name); err != nil {
		return misuse(cmd, "--name: %w", err)
	}
	st, err := createStore(cmd.Context(), f.store)
	if err != nil {
		return fmt.Errorf("init %s: %w", f.name, err)
	}
	keys, master, err := repositoryKeys(f.keys, f.name)
	if err != nil {
		return fmt.Errorf("init %s: %w", f.name, err)
	}
	if err := publisher.Init(cmd.Context(), publisher.Options{Store: st, Keys: keys}, s, master); err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if f.json {
		return typed(out, "initialized", revised{f.name, 1})
	}
	fmt.Fprintf(out, "made %s at revision 1 in %s\n", f.name, f.store)
	fmt.Fprintf(out, "files are %s, named by %s: %s\n", s.Compression, s.Algorithm, readers(s.Compression))
	fmt.Fprintf(out, "give cells %s\n", manifest.PublicKeyFile(f.keys, f.name))
	fmt.Fprintf(out, "move %s to a safe place: publishing never needs it, signing the whitelist does, by %s\n",
		manifest.MasterKeyFile(f.keys, f.name), time.Now().Add(manifest.WhitelistValidity).UTC().Format("2006-01-02"))
	return nil
}

// repositoryKeys makes the keys of a new repository, or takes those that lie in
// dir already.
func repositoryKeys(dir, name string) (*manifest.Keys, *rsa.PrivateKey, error) {
	if _, err := os.Lstat(manifest.MasterKeyFile(dir, name)); err == nil {
		keys, err := manifest.ReadKeys(dir, name)
		if err != nil {
			return nil, nil, err
		}
		master, err := manifest.ReadMasterKey(dir, name)
		return keys, master, err
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	keys, master, err := manifest.GenerateKeys(name, manifest.KeyOptions{})
	if err != nil {
		return nil, nil, err
	}
	return keys, master, keys.Write(dir, master)
}

// readers says who can read files of a compression.
func readers(c object.Compression) string {
	if c == object.Zstd {
		return "Rootstock cells read them; stock CernVM-FS servers and proxies carry them, stock 2.12 clients cannot read them"
	}
	return "Rootstock cells and stock CernVM-FS clients read them"
}
