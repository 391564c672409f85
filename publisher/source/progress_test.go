package source_test

import (
	"archive/zip"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/rootstock-cf/rootstock/publisher/source"
)

// What is read is all there is, once it has been read; of what is read twice,
// twice as much.
func TestProgress(t *testing.T) {
	img, tars := image(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "rootfs.tar")
	if err := os.WriteFile(file, tars[0], 0o600); err != nil {
		t.Fatal(err)
	}
	bp := filepath.Join(t.TempDir(), "bp.zip")
	out, err := os.Create(bp)
	if err != nil {
		t.Fatal(err)
	}
	w := zip.NewWriter(out)
	if _, err := w.Create("bin/detect"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layout := ociLayout(t, img, "v1")
	for name, tc := range map[string]struct {
		open    func(ctx context.Context, what string, o source.Options) (*source.Source, error)
		what    string
		unknown bool
		about   bool // the total is an estimate
	}{
		"rootfs":    {open: source.OpenRootfs, what: file},
		"image":     {open: source.OpenImage, what: "oci:" + layout},
		"buildpack": {open: source.OpenBuildpack, what: bp, about: true},
		"dir":       {open: source.OpenDir, what: dir, unknown: true},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := tc.open(t.Context(), tc.what, quick(t))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			read := func() {
				t.Helper()
				for _, l := range s.Layers {
					if _, err := readLayer(l); err != nil {
						t.Fatal(err)
					}
				}
			}
			read() // before anybody counts
			var p source.Progress
			s.Count(nil)
			s.Count(&p)
			if p.Read.Load() != 0 || p.Unknown.Load() != tc.unknown || (p.Total.Load() > 0) == tc.unknown {
				t.Errorf("at first %d of %d, unknown %t", p.Read.Load(), p.Total.Load(), p.Unknown.Load())
			}
			for range 2 {
				read()
				if !tc.unknown && !tc.about && p.Read.Load() != p.Total.Load() || p.Read.Load() == 0 {
					t.Errorf("read %d of %d", p.Read.Load(), p.Total.Load())
				}
			}
		})
	}
}
