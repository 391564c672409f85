package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/publisher"
	"github.com/rootstock-cf/rootstock/store"
	"github.com/rootstock-cf/rootstock/store/local"
	"github.com/rootstock-cf/rootstock/store/s3"
)

// NewRootstock is the operator's program.
func NewRootstock() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rootstock",
		Short: "Publish root file systems and images into a CernVM-FS repository",
	}
	cmd.AddCommand(newInit(), newPublish(), newList(), newServe())
	cmd.AddCommand(newThinTar())
	cmd.AddCommand(newThinBuildpack())
	cmd.AddCommand(newTag(), newRollback(), newHistory())
	cmd.AddCommand(newChannel(), newRemove())
	cmd.AddCommand(newRebase())
	cmd.AddCommand(newSync())
	cmd.AddCommand(newMan())
	cmd.AddCommand(newDiff(), newExplain())
	cmd.AddCommand(newSBOM(), newAudit())
	cmd.AddCommand(newFleet())
	cmd.AddCommand(newWhitelist(), newResign())
	cmd.AddCommand(newCheck(), newGC())
	cmd.AddCommand(newRecompress())
	cmd.AddCommand(newReplicate())
	cmd.AddCommand(newResume())
	cmd.AddCommand(newProfile())
	cmd.AddCommand(newAttest(), newVerify())
	cmd.PersistentFlags().Var(environment(s3.ConfigVariable), "s3-config", "file of CVMFS_S3_* settings for s3:// stores; without, the AWS_* variables count")
	return cmd
}

// openStore opens an existing repository's place: a directory, or s3://.
func openStore(spec string) (store.Store, error) {
	if strings.Contains(spec, "://") {
		o, err := s3.Configure(spec, os.Getenv)
		if err != nil {
			return nil, err
		}
		return s3.Open(o)
	}
	s, err := local.Open(spec)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("store %s: no repository here; rootstock init --store %s makes one: %w", spec, spec, err)
	}
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", spec, err)
	}
	return s, nil
}

// openReader looks at what an existing repository holds: a store, or what its
// server hands out.
func openReader(ctx context.Context, spec, temp string) (*publisher.Reader, error) {
	if !strings.HasPrefix(spec, "http://") && !strings.HasPrefix(spec, "https://") {
		st, err := openStore(spec)
		if err != nil {
			return nil, err
		}
		return publisher.OpenReader(ctx, st, temp)
	}
	server, err := newRemote(spec)
	if err != nil {
		return nil, fmt.Errorf("--store: %w", err)
	}
	return publisher.OpenReader(ctx, server, temp)
}

// createStore is openStore for a place that is to get a new repository.
func createStore(ctx context.Context, spec string) (store.Store, error) {
	if strings.Contains(spec, "://") {
		o, err := s3.Configure(spec, os.Getenv)
		if err != nil {
			return nil, err
		}
		return s3.Create(ctx, o)
	}
	return local.Create(spec)
}

// environment is a flag that is another spelling of an environment variable.
type environment string

func (e environment) String() string { return os.Getenv(string(e)) }

func (e environment) Set(value string) error { return os.Setenv(string(e), value) }

func (environment) Type() string { return "file" }
