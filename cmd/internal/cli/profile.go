package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/cell"
	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/imagemeta/profile"
	"github.com/rootstock-cf/rootstock/publisher"
)

func newProfile() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "profile",
		Short: "What containers open when they start, for cells that have nothing of a tree yet",
	}
	cmd.AddCommand(newProfilePublish())
	return cmd
}

func newProfilePublish() *cobra.Command {
	var f writeFlags
	var cells cellFlags
	var asJSON bool
	pack := int64(profile.MaxPacked)
	cmd := &cobra.Command{
		Use:   "publish --store STORE --keys DIR SOURCE…",
		Short: "Publish what cells recorded of containers' starts",
		Long: `Merge what cells recorded into what the repository notes of its trees, and make
the startup packs that cells read. A SOURCE is the https URL of a cell's fleet
listener, a cell's unix socket, a file that rootstock-cell profiles wrote, or -
for standard input. Trees of other repositories are left out; where nothing is
new no revision is made.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return misuse(cmd, "name a SOURCE: a cell's URL or socket, a file, or -")
			}
			if pack < 0 || pack > profile.MaxPacked {
				return misuse(cmd, "--pack %d: want 0 to %d bytes", pack, profile.MaxPacked)
			}
			var all []profile.Document
			for _, source := range args {
				docs, err := profilesFrom(cmd, &cells, source)
				if err != nil {
					return fmt.Errorf("profiles of %s: %w", source, err)
				}
				all = append(all, docs...)
			}
			p, err := f.open(cmd.Context())
			if err != nil {
				return err
			}
			done, err := p.PublishProfiles(cmd.Context(), all, pack)
			if err != nil {
				return err
			}
			return printProfiled(cmd, done, asJSON)
		},
	}
	f.add(cmd.Flags())
	cells.add(cmd.Flags(), "")
	cmd.Flags().Int64Var(&pack, "pack", pack, "largest content in bytes that a startup pack holds; 0 only names contents")
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object per line")
	required(cmd, "store", "keys")
	return cmd
}

func printProfiled(cmd *cobra.Command, done *publisher.Profiled, asJSON bool) error {
	if asJSON {
		return line(cmd.OutOrStdout(), struct {
			MessageType string   `json:"message_type"`
			Revision    uint64   `json:"revision"`
			Trees       []string `json:"trees"`
			Unknown     []string `json:"unknown"`
		}{"profiled", done.Revision, append([]string{}, done.Trees...), append([]string{}, done.Unknown...)})
	}
	fmt.Fprintf(cmd.OutOrStdout(), "profiles of %d trees have something new; revision %d\n", len(done.Trees), done.Revision)
	if n := len(done.Unknown); n > 0 {
		fmt.Fprintf(cmd.OutOrStdout(), "%d trees are not published here, such as %s\n", n, done.Unknown[0])
	}
	return nil
}

func profilesFrom(cmd *cobra.Command, cells *cellFlags, source string) ([]profile.Document, error) {
	if source == "-" {
		return profile.Read(cmd.InOrStdin())
	}
	if strings.Contains(source, "://") {
		return profilesOfCell(cmd.Context(), cells, source)
	}
	info, err := os.Stat(source)
	if err != nil {
		return nil, err
	}
	if info.Mode().Type() == fs.ModeSocket {
		return profilesOfSocket(cmd.Context(), source)
	}
	f, err := os.Open(source) // #nosec G304 -- the operator's
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return profile.Read(f)
}

func profilesOfSocket(ctx context.Context, socket string) (all []profile.Document, err error) {
	var wrong error
	err = (&control.Client{Socket: socket, Timeout: control.LongTimeout}).Do(ctx, cell.CallProfiles, nil, nil, func(raw json.RawMessage) {
		var d profile.Document
		if err := json.Unmarshal(raw, &d); err != nil {
			wrong = err
			return
		}
		all = append(all, d)
	})
	return all, errors.Join(err, wrong)
}

func profilesOfCell(ctx context.Context, cells *cellFlags, source string) ([]profile.Document, error) {
	u, err := url.Parse(source)
	if err != nil {
		return nil, err
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = cell.ProfilesRoute
	}
	asker, err := cells.asker()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := asker.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) //nolint:errcheck // part of it is as good
		return nil, fmt.Errorf("HTTP %s: %s", resp.Status, printable(strings.TrimSpace(string(text))))
	}
	return profile.Read(resp.Body)
}
