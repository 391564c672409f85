package source_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/publisher/source"
)

func stackTar(t *testing.T, name, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range [][2]string{{"./bin/sh", "#!"}, {name, text}} {
		err := w.WriteHeader(&tar.Header{Name: e[0], Mode: 0o644, Size: int64(len(e[1]))})
		if _, werr := io.WriteString(w, e[1]); err != nil || werr != nil {
			t.Fatal(err, werr)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestStackVersion(t *testing.T) {
	for name, c := range map[string]struct {
		file, entry, text string
		compress          []string
		name, version     string
		fails             error
	}{
		"plain":    {"cflinuxfs4-1.97.0.tar", "./etc/stack-version", "1.97.0\n", nil, "cflinuxfs4", "1.97.0", nil},
		"exported": {"cflinuxfs4.x86_64.tar.gz", "etc/stack-version", "1.97.0", []string{"gzip"}, "cflinuxfs4", "1.97.0", nil},
		"zstd":     {"my_stack", "/etc/stack-version", " 2 ", []string{"zstd", "-q"}, "my_stack", "2", nil},
		"xz":       {"s.tar.xz", "etc/stack-version", "3", []string{"xz"}, "s", "3", nil},
		"no name":  {"1.tar", "etc/stack-version", "3", nil, "", "3", nil},
		"none":     {"s.tar", "./x/etc/stack-version", "1", nil, "s", "", nil},
		"large":    {"s.tar", "etc/stack-version", strings.Repeat("1", 5000), nil, "", "", source.ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			b := stackTar(t, c.entry, c.text)
			if c.compress != nil {
				b = filter(t, b, c.compress...)
			}
			file := filepath.Join(t.TempDir(), c.file)
			if err := os.WriteFile(file, b, 0o644); err != nil {
				t.Fatal(err)
			}
			s, err := source.OpenRootfs(context.Background(), file, quick(t))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close() //nolint:errcheck // only read from
			if err := s.StackVersion(context.Background(), file); !errors.Is(err, c.fails) || err == nil && c.fails != nil {
				t.Fatal(err)
			}
			if s.Name != c.name || s.Version != c.version {
				t.Errorf("%q %q", s.Name, s.Version)
			}
			if _, err := readLayer(s.Layers[0]); err != nil {
				t.Errorf("cannot be read any more: %v", err)
			}
		})
	}
}

func TestReceipt(t *testing.T) {
	dir := t.TempDir()
	receipt := filepath.Join(dir, "receipt.cflinuxfs4.x86_64")
	if err := os.WriteFile(receipt, []byte("ii  bash"), 0o644); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"cflinuxfs4.x86_64.tar.gz": receipt, "cflinuxfs4.x86_64.tar": receipt, "cflinuxfs4.x86_64.tgz": receipt,
		"cflinuxfs4.tar.gz": "", "other.x86_64.tar.gz": "",
	} {
		if got := source.FindReceipt(filepath.Join(dir, file)); got != want {
			t.Errorf("%s: %q", file, got)
		}
	}
	var s source.Source
	if err := s.TakeReceipt(receipt); err != nil || string(s.Receipt) != "ii  bash" {
		t.Errorf("%q, %v", s.Receipt, err)
	}
	if err := os.Truncate(receipt, 5<<20); err != nil {
		t.Fatal(err)
	}
	if err := s.TakeReceipt(receipt); !errors.Is(err, source.ErrTooLarge) {
		t.Error(err)
	}
	if err := s.TakeReceipt(receipt + "x"); !errors.Is(err, source.ErrNotFound) {
		t.Error(err)
	}
}
