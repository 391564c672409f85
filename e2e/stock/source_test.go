package stock_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// source writes a root file system tarball with one of everything; seed varies
// one file. What a catalog cannot say (hard links across directories) is left
// out, so that every view of it is the same.
func source(t *testing.T, seed uint64) string {
	t.Helper()
	big := make([]byte, 17<<20) // more than the largest chunk
	random := rand.NewChaCha8([32]byte{})
	random.Read(big) //nolint:errcheck // never fails
	text := bytes.Repeat([]byte("the quick brown fox\n"), 4000)
	when := time.Unix(1_600_000_000, 123456789)
	dir := func(name string, mode int64) tar.Header {
		return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}
	}
	file := func(name string, mode int64) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}
	}
	entries := []struct {
		tar.Header
		data []byte
	}{
		{Header: dir("./", 0o755)},
		{Header: dir("etc/", 0o755)},
		{Header: dir("dev/", 0o755)},
		{Header: dir("tmp/", 0o1777)},
		{Header: dir("usr/", 0o755)},
		{Header: dir("usr/bin/", 0o755)},
		{Header: dir("empty/", 0o700)},
		{file("etc/motd", 0o644), fmt.Appendf(nil, "version %d\n", seed)},
		{file("etc/empty", 0o600), nil},
		{file("etc/text", 0o644), text},
		{file("usr/bin/big", 0o755), big},
		{file("usr/bin/su", 0o4755), []byte("not really")},
		{Header: tar.Header{Typeflag: tar.TypeLink, Name: "etc/motd.again", Linkname: "etc/motd"}},
		{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "etc/link", Linkname: "motd"}},
		{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "etc/dangling", Linkname: "/no/where"}},
		{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "etc/variable", Linkname: "$(ROOTSTOCK_UNSET:-motd)"}},
		{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "dev/fifo", Mode: 0o600}},
		{Header: tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Mode: 0o666, Devmajor: 1, Devminor: 3}},
		{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "dev/loop300", Mode: 0o660, Devmajor: 7, Devminor: 300}},
		{file("etc/caf\u00e9 with blanks", 0o644), []byte("x")},
		{file("etc/"+strings.Repeat("n", 255), 0o644), []byte("a long name")},
	}
	owned := file("etc/owned", 0o640)
	owned.Uid, owned.Gid = 1000, 70000
	owned.PAXRecords = map[string]string{"SCHILY.xattr.user.note": "kept", "SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
	entries = append(entries, struct {
		tar.Header
		data []byte
	}{owned, []byte("owned")})

	path := filepath.Join(t.TempDir(), "source.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	for _, e := range entries {
		e.Format, e.ModTime, e.Size = tar.FormatPAX, when, int64(len(e.data))
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}
