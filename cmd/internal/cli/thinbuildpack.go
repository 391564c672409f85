package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/rootfsprovider/thinbuildpack"
)

func newThinBuildpack() *cobra.Command {
	var st, temp, mount string
	var asJSON *bool
	cmd := &cobra.Command{
		Use:   "thin-buildpack REF FILE --store STORE",
		Short: "Write the small zip that stands for a published buildpack in Cloud Controller",
		Long: `Write a zip of a few kilobytes to upload to Cloud Controller (cf update-buildpack)
instead of a buildpack of hundreds of megabytes. Its scripts run those of the
published one from where rootstock-plugin mounts it in staging containers: let
"buildpacks" in the plugin's configuration name DIR and REF. buildpacks/NAME:CHANNEL
moves with its channel and need not be uploaded again; with NAME@VERSION another
version that is mounted there is refused.

Diego decides by a buildpack's scripts what it calls, so those of REF are looked
up in the store: if a later version has a bin/supply or bin/finalize that this
one has not, or the other way round, the zip has to be written and uploaded anew.
Its scripts notice and say so.`,
		Args: exactArgs("REF", "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := reference.Parse(args[0])
			if err != nil {
				return misuse(cmd, "%w", err)
			}
			if ref.Kind != reference.Buildpacks || ref.Path != "" {
				return misuse(cmd, "%s is no buildpack: want buildpacks/NAME[@VERSION|:CHANNEL]", ref)
			}
			d, err := describeBuildpack(cmd.Context(), st, temp, ref)
			if err != nil {
				return fmt.Errorf("thin buildpack of %s: %w", ref, err)
			}
			if d.Mount = mount; mount == "" {
				d.Mount = "/buildpacks/" + ref.Name
			}
			if err := thinbuildpack.WriteFile(args[1], d); err != nil {
				return err
			}
			if *asJSON {
				return typed(cmd.OutOrStdout(), "thin_buildpack", thinLine{Reference: d.Ref.String(), Mount: d.Mount, File: args[1]})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "wrote %s; the plugin's configuration needs\n  \"buildpacks\": {\"handles\": …, \"mounts\": {%q: \"%s\"}}\n",
				args[1], d.Mount, d.Ref)
			return nil
		},
	}
	cmd.Flags().StringVar(&st, "store", "", "directory or s3:// place of the repository")
	cmd.Flags().StringVar(&temp, "tmp", "", "directory for temporary files")
	cmd.Flags().StringVar(&mount, "mount", "", "directory of the staging container where the plugin mounts it (default /buildpacks/NAME)")
	asJSON = wantsJSON(cmd)
	required(cmd, "store")
	return cmd
}

// Bounds of what is read of a buildpack, in bytes.
const (
	maxBuildpackVersion  = 4 << 10
	maxBuildpackManifest = 1 << 20
)

// describeBuildpack reads what a thin buildpack has to repeat of the real one.
func describeBuildpack(ctx context.Context, st, temp string, ref reference.Reference) (d thinbuildpack.Descriptor, err error) {
	s, err := openStore(st)
	if err != nil {
		return d, err
	}
	r, err := publisher.OpenReader(ctx, s, temp)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	t, err := r.Find(ctx, ref)
	if err != nil {
		return d, err
	}
	d.Ref = ref
	if d.Ref.Repository, err = publisher.RepositoryName(ctx, s); err != nil {
		return d, err
	}
	if d.Dir, d.Has, err = scripts(ctx, r, t); err != nil {
		return d, err
	}
	version, err := optionalFile(ctx, r, t, path.Join(d.Dir, "VERSION"), maxBuildpackVersion)
	if err != nil {
		return d, err
	}
	if !strings.Contains(version, "\r") { // with one, the shell reads it differently
		d.Version = strings.TrimSpace(version)
	}
	text, err := optionalFile(ctx, r, t, path.Join(d.Dir, "manifest.yml"), maxBuildpackManifest)
	if err != nil {
		return d, err
	}
	var doc struct {
		Language string `yaml:"language"`
		Stack    string `yaml:"stack"`
	}
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return d, fmt.Errorf("its manifest.yml: %w", err)
	}
	d.Language, d.Stack = doc.Language, doc.Stack
	return d, nil
}

// scripts finds bin/, as Diego's lifecycle does: at the top, or in the only
// directory there.
func scripts(ctx context.Context, r *publisher.Reader, t publisher.Listed) (dir string, has []string, err error) {
	top, err := r.Names(ctx, t, "")
	if err != nil {
		return "", nil, err
	}
	if !slices.Contains(top, "bin") && len(top) == 1 {
		dir = top[0]
	}
	there, err := r.Names(ctx, t, path.Join(dir, "bin"))
	if err != nil {
		return "", nil, err
	}
	for _, s := range thinbuildpack.Scripts {
		if slices.Contains(there, s) {
			has = append(has, s)
		}
	}
	return dir, has, nil
}

// optionalFile is the text of a tree's file, "" for none.
func optionalFile(ctx context.Context, r *publisher.Reader, t publisher.Listed, name string, limit int64) (string, error) {
	b, err := r.File(ctx, t, name, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}
