// Package trust adds certificates to those that a root file system's programs
// trust: what update-ca-certificates does, without running anything of the
// tree. The tree is hostile: every path is resolved with the tree's root as
// "/", and what is read is bounded.
package trust

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	certsDir = "/etc/ssl/certs"
	bundle   = "ca-certificates.crt"
	localDir = "/usr/local/share/ca-certificates"

	maxCertificates = 4096
	maxBundle       = 32 << 20 // bytes of the tree's own bundle
	maxLinks        = 64       // certificates of one subject hash
)

// Set is certificates, each once, in the order given.
type Set struct{ certs []certificate }

type certificate struct{ raw, subject []byte } // DER

// name is the certificate's in the tree.
func (c certificate) name() string {
	sum := sha256.Sum256(c.raw)
	return "rootstock-" + hex.EncodeToString(sum[:8])
}

// Parse reads PEM certificates. Text between them is ignored, as OpenSSL does;
// other PEM blocks and certificates that cannot be read are errors.
func Parse(text []byte) (Set, error) {
	var s Set
	seen := map[[32]byte]bool{}
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			return Set{}, fmt.Errorf("a %.40q among the certificates", b.Type)
		}
		c := certificate{raw: b.Bytes}
		var ok bool
		if c.subject, ok = subjectOf(b.Bytes); !ok {
			return Set{}, fmt.Errorf("certificate %d is not in X.509's form", len(s.certs)+1)
		}
		if sum := sha256.Sum256(c.raw); !seen[sum] {
			seen[sum] = true
			s.certs = append(s.certs, c)
		}
		if len(s.certs) > maxCertificates {
			return Set{}, fmt.Errorf("more than %d certificates", maxCertificates)
		}
	}
	if len(s.certs) == 0 {
		return Set{}, errors.New("no PEM certificate in it")
	}
	return s, nil
}

// Install adds the certificates to the tree mounted at root: to the bundle, as
// hashed links for OpenSSL, to Java's keystore where there is one, and as
// sources, so that an update-ca-certificates in a container keeps them. A tree
// without /etc/ssl/certs is left alone. What it makes belongs to the user it
// runs as. left says what was not added to, and why; "" is nothing.
func (s Set) Install(root string) (left string, err error) {
	t, err := openTree(root)
	if err != nil {
		return "", fmt.Errorf("trusted certificates: %w", err)
	}
	defer t.close()
	certs, err := t.resolve(certsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err == nil {
		left, err = s.install(t, certs)
	}
	if err != nil {
		return "", fmt.Errorf("trusted certificates: %w", err)
	}
	return left, nil
}

func (s Set) install(t *tree, certs string) (left string, err error) {
	sources, err := t.resolve(localDir)
	if errors.Is(err, fs.ErrNotExist) {
		if sources, err = t.resolve(path.Dir(localDir)); err == nil {
			sources = path.Join(sources, path.Base(localDir))
			err = t.mkdir(sources)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	var all bytes.Buffer
	for _, c := range s.certs {
		name := c.name()
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.raw})
		all.Write(text)
		link := path.Join(certs, name+".pem")
		if sources == "" {
			err = t.write(link, text)
		} else if err = t.write(path.Join(sources, name+".crt"), text); err == nil {
			err = t.symlink(localDir+"/"+name+".crt", link)
		}
		if err == nil {
			err = t.hashLink(certs, name+".pem", subjectHash(c.subject))
		}
		if err != nil {
			return "", err
		}
	}
	if err := t.appendTo(path.Join(certs, bundle), all.Bytes()); err != nil {
		return "", err
	}
	return s.installJava(t)
}

// tree is a root file system. Its paths are resolved by the kernel, and then
// used without links.
type tree struct {
	root *os.Root
	fd   int
	path string // as the kernel names it
}

func openTree(root string) (*tree, error) {
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		r.Close() //nolint:errcheck // nothing was done
		return nil, err
	}
	t := &tree{root: r, fd: fd}
	if t.path, err = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *tree) close() {
	unix.Close(t.fd) //nolint:errcheck // a place only
	t.root.Close()   //nolint:errcheck // likewise
}

// resolve returns the path below the root that p leads to, without links.
func (t *tree) resolve(p string) (string, error) {
	fd, err := unix.Openat2(t.fd, p, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return "", fmt.Errorf("%s: %w", p, err)
	}
	defer unix.Close(fd) //nolint:errcheck // a place only
	full, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return "", fmt.Errorf("%s: %w", p, err)
	}
	rel, ok := strings.CutPrefix(full, strings.TrimSuffix(t.path, "/")+"/")
	if !ok {
		return "", fmt.Errorf("%s: leads out of the tree", p)
	}
	return rel, nil
}

func (t *tree) mkdir(name string) error {
	return errors.Join(t.root.Mkdir(name, 0o755), t.root.Chmod(name, 0o755))
}

// write makes name a file with this text, whatever it was.
func (t *tree) write(name string, text []byte) error {
	tmp := path.Join(path.Dir(name), ".rootstock-new")
	if err := t.root.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := t.root.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return t.root.Rename(tmp, name)
}

func (t *tree) symlink(target, name string) error {
	if err := t.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return t.root.Symlink(target, name)
}

// hashLink makes the link by which OpenSSL finds a certificate: its subject's
// hash and the first number that is free.
func (t *tree) hashLink(dir, target string, hash uint32) error {
	for n := range maxLinks {
		name := fmt.Sprintf("%s/%08x.%d", dir, hash, n)
		if have, err := t.root.Readlink(name); err == nil && have == target {
			return nil
		}
		err := t.root.Symlink(target, name)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return fmt.Errorf("more than %d certificates of the hash %08x", maxLinks, hash)
}

// read returns a regular file of at most that many bytes.
func (t *tree) read(name string, most int64) ([]byte, error) {
	f, err := t.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is no regular file", name))
	}
	have, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(have)) > most {
		err = fmt.Errorf("%s has more than %d bytes", name, most)
	}
	return have, err
}

// appendTo adds text to a file that may be a link inside the tree, or not be
// there.
func (t *tree) appendTo(name string, text []byte) error {
	to, err := t.resolve("/" + name)
	if errors.Is(err, fs.ErrNotExist) {
		return t.write(name, text)
	}
	if err != nil {
		return err
	}
	have, err := t.read(to, maxBundle)
	if err != nil {
		return err
	}
	if len(have) > 0 && have[len(have)-1] != '\n' {
		have = append(have, '\n')
	}
	return t.write(to, append(have, text...))
}
