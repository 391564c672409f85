package rootfsprovider

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rootstock-cf/rootstock/rootfsprovider/thintar"
)

// WriteThinTars writes a thin tar for each configured stack into dir, which it
// makes if need be and which is meant for rep's extra_root_fs_dir. Thin tars of
// stacks that are no longer configured go; other files stay. It returns the
// stacks' names.
func (p *Provider) WriteThinTars(dir string) ([]string, error) {
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("thin tars: %q is not an absolute path", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { // #nosec G301 -- rep runs as another user
		return nil, fmt.Errorf("thin tars: %w", err)
	}
	names := slices.Sorted(maps.Keys(p.conf.Stacks))
	for _, name := range names {
		ref, err := CVMFS(p.conf.Repositories).parse(p.conf.Stacks[name])
		if err != nil {
			return nil, fmt.Errorf("stack %s: %w", name, err)
		}
		if err := thintar.WriteFile(filepath.Join(dir, name+thintar.Ext), thintar.Descriptor{Ref: ref}); err != nil {
			return nil, fmt.Errorf("stack %s: %w", name, err)
		}
	}
	old, err := filepath.Glob(filepath.Join(escapeGlob(dir), "*"+thintar.Ext))
	if err != nil {
		return nil, fmt.Errorf("thin tars: %w", err)
	}
	for _, path := range old {
		name := strings.TrimSuffix(filepath.Base(path), thintar.Ext)
		if _, ok := p.conf.Stacks[name]; ok {
			continue
		}
		if _, err := thintar.ReadFile(path); errors.Is(err, thintar.ErrNone) {
			continue
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("thin tars: %w", err)
		}
	}
	return names, nil
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// PoolWanting reports whether FillPool has something to do.
func (p *Provider) PoolWanting() bool { return p.quotas.Wanting() }

// FillPool makes file systems for write layers ahead.
func (p *Provider) FillPool(ctx context.Context) error {
	if err := p.store.make(); err != nil {
		return err
	}
	return p.quotas.Fill(ctx)
}
