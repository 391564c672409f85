package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/rootstock-cf/rootstock/inventory"
	"github.com/rootstock-cf/rootstock/inventory/audit"
	"github.com/rootstock-cf/rootstock/inventory/fleet"
	"github.com/rootstock-cf/rootstock/publisher"
)

// auditFlags are those of rootstock audit.
type auditFlags struct {
	readFlags
	file          string
	cells         []string
	cert, key, ca string
	timeout       time.Duration
}

func newAudit() *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "audit [QUERY]... --store STORE [--file ADVISORIES] [--cells FILE|URL]...",
		Short: "Say which trees, versions and containers have a package in question",
		Long: `Say which published trees have a package in question, under which versions and
channels, which cells run containers on them, and which version to move to.

A query is a name or a package URL and comparisons in the ecosystem's own order:
'openssl < 3.0.2-0ubuntu1.18', 'pkg:npm/bcrypt >= 4, < 5.0.0'. --file reads
advisories in the OSV format. --cells names files or URLs with what cells say of
their containers.

Exit code: 0 clean, 3 affected, 4 nothing affected found but not everything could
be looked at; the summary says what.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && f.file == "" {
				return misuse(cmd, "ask something: a query such as 'openssl < 3.0.2-0ubuntu1.18', or --file ADVISORIES")
			}
			return f.run(cmd, args)
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringVar(&f.file, "file", "", "advisories in the OSV format, JSON")
	cmd.Flags().StringSliceVar(&f.cells, "cells", nil, "file or URL of cells' containers; may be repeated")
	cmd.Flags().StringVar(&f.cert, "cells-cert", "", "certificate, PEM, to show to cells")
	cmd.Flags().StringVar(&f.key, "cells-key", "", "its key, PEM")
	cmd.Flags().StringVar(&f.ca, "cells-ca", "", "authority, PEM, of the cells' certificates (default the system's)")
	cmd.Flags().DurationVar(&f.timeout, "cells-timeout", 10*time.Second, "how long a cell may take to answer")
	required(cmd, "store")
	return cmd
}

func (f *auditFlags) run(cmd *cobra.Command, queries []string) error {
	advisories, skipped, err := f.advisories(cmd, queries)
	if err != nil {
		return err
	}
	client, err := f.client()
	if err != nil {
		return err
	}
	trees, err := f.trees(cmd.Context())
	if err != nil {
		return err
	}
	r := audit.Run(advisories, trees, fleet.Ask(cmd.Context(), client, f.cells))
	p := auditPrinter{cmd.OutOrStdout(), r, len(trees), skipped}
	if f.json {
		err = p.json()
	} else {
		err = p.text()
	}
	switch {
	case err != nil:
		return err
	case r.Affected():
		return exitCode(exitAffected)
	case !r.Complete():
		return exitCode(exitUnsure)
	}
	return nil
}

func (f *auditFlags) advisories(cmd *cobra.Command, queries []string) (all []audit.Advisory, skipped int, err error) {
	for _, q := range queries {
		a, err := audit.ParseQuery(q)
		if err != nil {
			return nil, 0, misuse(cmd, "%w", err)
		}
		all = append(all, a)
	}
	if f.file == "" {
		return all, 0, nil
	}
	in, err := os.Open(f.file)
	if err != nil {
		return nil, 0, err
	}
	defer in.Close()
	more, skipped, err := audit.ParseOSV(in)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", f.file, err)
	}
	return append(all, more...), skipped, nil
}

// client asks cells, with mutual TLS if so configured.
func (f *auditFlags) client() (*http.Client, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.cert != "" || f.key != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("--cells-cert and --cells-key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, fmt.Errorf("--cells-ca: %w", err)
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--cells-ca %s: no certificate in it", f.ca)
		}
	}
	return &http.Client{Timeout: f.timeout, Transport: &http.Transport{TLSClientConfig: c, Proxy: http.ProxyFromEnvironment}}, nil
}

// trees reads what is published and what is noted of it.
func (f *auditFlags) trees(ctx context.Context) ([]audit.Tree, error) {
	st, err := openStore(f.store)
	if err != nil {
		return nil, err
	}
	r, err := publisher.OpenReader(ctx, st, f.temp)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	all, err := r.List(ctx)
	if err != nil {
		return nil, err
	}
	channels, err := r.Channels(ctx)
	if err != nil {
		return nil, err
	}
	leads := map[string][]string{}
	for _, c := range channels {
		at := c.Reference.WithVersion(c.Version).String()
		leads[at] = append(leads[at], c.Reference.String())
	}
	var trees []audit.Tree
	known := map[string]int{}
	for _, l := range all {
		i, ok := known[l.Tree]
		if !ok {
			i = len(trees)
			known[l.Tree] = i
			v, err := noted(ctx, r, l.Tree)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", l.Reference, err)
			}
			trees = append(trees, audit.Tree{ID: l.Tree, Inventory: v})
		}
		trees[i].Versions = append(trees[i].Versions, audit.Version{
			Reference: l.Reference, Published: l.Published, Channels: leads[l.Reference.String()],
		})
	}
	return trees, nil
}

// noted is a tree's inventory, nil if it has none.
func noted(ctx context.Context, r *publisher.Reader, tree string) (*inventory.Inventory, error) {
	b, err := r.Note(ctx, tree, publisher.PackagesNote, inventory.MaxDocument)
	if errors.Is(err, publisher.ErrNoNote) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v, err := inventory.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return &v, nil
}
