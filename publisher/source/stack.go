package source

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

const (
	// stackFile is where a stack says its version; Diego's rep reads it as
	// well.
	stackFile    = "etc/stack-version"
	maxStackFile = 4 << 10 // bytes
	maxReceipt   = 4 << 20 // bytes, of which cflinuxfs4's needs a twentieth
)

// StackVersion reads the version that a rootfs says in /etc/stack-version, and
// the name of the stack that its file is called by: cflinuxfs4 for
// cflinuxfs4-1.2.3.tar.gz and cflinuxfs4.x86_64.tar.gz. It costs decompressing
// the file as far as that entry, and no less than all of it if there is none.
func (s *Source) StackVersion(ctx context.Context, file string) error {
	in, err := s.Layers[0].Open(ctx)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // it is read, and judged, when it is published
	text, err := findFile(in, stackFile)
	if err != nil {
		return fmt.Errorf("rootfs %s: %w", file, err)
	}
	s.Name, s.Version = stackName(file), strings.TrimSpace(text)
	return nil
}

// findFile returns the content of the first regular file of that name, or "".
func findFile(in io.Reader, name string) (string, error) {
	t := tar.NewReader(in)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		if h.Typeflag != tar.TypeReg || path.Clean("/"+h.Name) != "/"+name {
			continue
		}
		if h.Size > maxStackFile {
			return "", fmt.Errorf("%w: %q has %d bytes, more than %d", ErrFormat, h.Name, h.Size, maxStackFile)
		}
		text, err := io.ReadAll(t)
		return string(text), err
	}
}

var stackNames = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*`)

func stackName(file string) string { return stackNames.FindString(filepath.Base(file)) }

// TakeReceipt takes along the list of packages that a rootfs's makers hand out
// beside it.
func (s *Source) TakeReceipt(file string) error {
	f, err := openRegular(file)
	if err != nil {
		return fmt.Errorf("receipt: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	text, err := readSmall(f, maxReceipt)
	if err != nil {
		return fmt.Errorf("receipt %s: %w", file, err)
	}
	s.Receipt = text
	return nil
}

// FindReceipt returns the file beside a rootfs that cflinuxfs's makers put
// there, receipt.NAME.ARCH beside NAME.ARCH.tar.gz, or "".
func FindReceipt(file string) string {
	build := filepath.Base(file)
	for _, ext := range []string{".gz", ".zst", ".xz", ".tar", ".tgz"} {
		build = strings.TrimSuffix(build, ext)
	}
	beside := filepath.Join(filepath.Dir(file), "receipt."+build)
	if st, err := os.Stat(beside); err != nil || !st.Mode().IsRegular() {
		return ""
	}
	return beside
}
