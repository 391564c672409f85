package client

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
)

// signed is what proves a head, as it came over the network.
type signed struct {
	published []byte
	whitelist []byte
	// certificate is the plain content of the object certificateHash. It
	// is kept unverified: the whitelist's fingerprint is over its bytes.
	certificate     []byte
	certificateHash object.Hash

	publishedTag, whitelistTag string // ETags
	whitelistAt                int64  // when it was fetched, UNIX seconds
}

// state is a repository's directory in the cache: what it takes to start
// without a server, and how far the repository had come.
//
//	published, whitelist, certificate   as served
//	cvmfschecksum.<fqrn>                the breadcrumb (CVMFS-FORMAT 6.6)
type state struct{ dir string }

const maxRootFile = 64 << 10 // bytes; CVMFS-FORMAT 10.3

func (s state) read(name string) ([]byte, error) {
	path := filepath.Join(s.dir, name)
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxRootFile {
		return nil, fmt.Errorf("state %s: %d bytes", path, info.Size())
	}
	var b []byte
	if err == nil {
		b, err = os.ReadFile(path) // #nosec G304 -- our own directory
	}
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	return b, nil
}

func (s state) write(name string, data []byte) error {
	path := filepath.Join(s.dir, name)
	f, err := os.CreateTemp(s.dir, ".new-")
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	defer os.Remove(f.Name()) //nolint:errcheck // after the rename there is nothing to remove
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}

func breadcrumb(fqrn string) string { return "cvmfschecksum." + fqrn }

// mark reads the breadcrumb; the zero Mark if there is none. One that cannot
// be read is an error: going on without would forget what must not be
// forgotten.
func (s state) mark(fqrn string) (manifest.Mark, error) {
	b, err := s.read(breadcrumb(fqrn))
	if errors.Is(err, fs.ErrNotExist) {
		return manifest.Mark{}, nil
	}
	if err != nil {
		return manifest.Mark{}, err
	}
	m, err := manifest.ParseMark(string(b))
	if err != nil {
		return m, fmt.Errorf("%s: %w; remove the file only if the repository was really set back", filepath.Join(s.dir, breadcrumb(fqrn)), err)
	}
	return m, nil
}

// load returns what was saved last; ok is false if that is not complete.
func (s state) load() (d signed, ok bool) {
	for name, to := range map[string]*[]byte{"published": &d.published, "whitelist": &d.whitelist, "certificate": &d.certificate} {
		b, err := s.read(name)
		if err != nil {
			return signed{}, false
		}
		*to = b
	}
	return d, true
}

// save keeps what was verified. The breadcrumb comes last: it must not speak
// of a revision that cannot be shown.
func (s state) save(fqrn string, d signed, mark manifest.Mark) error {
	for _, f := range []struct {
		name string
		data []byte
	}{
		{"certificate", d.certificate},
		{"whitelist", d.whitelist},
		{"published", d.published},
		{breadcrumb(fqrn), []byte(mark.String())},
	} {
		if old, err := s.read(f.name); err == nil && string(old) == string(f.data) {
			continue
		}
		if err := s.write(f.name, f.data); err != nil {
			return err
		}
	}
	return nil
}
