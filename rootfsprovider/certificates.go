package rootfsprovider

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rootstock-cf/rootstock/cell/control"
	"github.com/rootstock-cf/rootstock/rootfsprovider/layer"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
	"github.com/rootstock-cf/rootstock/rootfsprovider/trust"
)

const (
	// maxTrusted bounds the file of trusted certificates in bytes.
	maxTrusted = 8 << 20
	// certificatesFormat changes when what is made of the same tree and
	// certificates changes.
	certificatesFormat = "3"
)

func (s store) certificates(key string) string { return filepath.Join(string(s), "cas", key) }

// certificatesLock is held by whoever makes, begins to use or removes a layer.
func (s store) certificatesLock(key string) string { return s.certificates(key) + ".lock" }

// certificatesWork is where a layer is made.
func (s store) certificatesWork(key string) string { return filepath.Join(string(s), "cas", "."+key) }

// trust puts a layer with the configured certificates on top of a stack. It is
// made once per tree and set of certificates and shared from then on.
func (p *Provider) trust(ctx context.Context, rec *Record, lower *control.Lower) error {
	if p.conf.TrustedCerts == "" || lower.Tree == "" || !p.isStack(rec.Ref) {
		return nil
	}
	text, err := readTrusted(p.conf.TrustedCerts)
	if err != nil {
		return fmt.Errorf("trusted_certs: %w", err)
	}
	// Where the daemon maps the ids, this layer's are mapped on disk.
	shifted := len(lower.Mapped) > 0
	key, err := p.certificatesKey(lower.Tree, text, shifted)
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Dir(p.store.certificates(key)), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("store: %w", err)
	}
	l, err := takeLock(ctx, p.store.certificatesLock(key))
	if err != nil {
		return fmt.Errorf("trusted certificates: %w", err)
	}
	defer l.release()
	// With its name in a record, no collection takes the layer.
	rec.Certificates = key
	if err := updateRecord(p.store.record(rec.Handle), *rec); err != nil {
		return err
	}
	if _, err := os.Stat(p.store.certificates(key)); errors.Is(err, fs.ErrNotExist) {
		if err := p.makeCertificates(ctx, key, text, *lower, shifted); err != nil {
			return err
		}
		p.log.Info("trusted certificates added to a stack", "ref", rec.Ref.String(), "tree", lower.Tree, "layer", key)
	} else if err != nil {
		return fmt.Errorf("trusted certificates: %w", err)
	}
	if shifted {
		lower.Mapped = append([]string{p.store.certificates(key)}, lower.Mapped...)
	} else {
		lower.Lower = append([]string{p.store.certificates(key)}, lower.Lower...)
	}
	return p.step("trusted")
}

// certificatesKey names a layer after all that it is made of.
func (p *Provider) certificatesKey(tree string, text []byte, shifted bool) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s %s\n", certificatesFormat, tree)
	if shifted {
		mapping, err := json.Marshal(p.mapping)
		if err != nil {
			return "", fmt.Errorf("trusted certificates: %w", err)
		}
		fmt.Fprintf(h, "%s\n", mapping)
	}
	h.Write(text)
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

func readTrusted(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(io.LimitReader(f, maxTrusted+1))
	if err == nil && len(text) > maxTrusted {
		err = fmt.Errorf("%s has more than %d bytes", path, maxTrusted)
	}
	return text, err
}

// makeCertificates makes a layer by changing the tree through an overlay, whose
// upper directory becomes the layer: so each directory in it looks as in the
// tree. The layer's lock is held.
func (p *Provider) makeCertificates(ctx context.Context, key string, text []byte, lower control.Lower, shifted bool) (err error) {
	set, err := trust.Parse(text)
	if err != nil {
		return fmt.Errorf("trusted_certs: %s: %w", p.conf.TrustedCerts, err)
	}
	work := p.store.certificatesWork(key)
	if err := dropWork(ctx, work); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dropWork(context.WithoutCancel(ctx), work)) }()
	upper, root := filepath.Join(work, "upper"), filepath.Join(work, "root")
	for _, dir := range []string{work, upper, root, filepath.Join(work, "work")} {
		if err := mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	if err := overlay.Mount(overlay.Layers{
		Lower: lower.Lower, Data: lower.Data, Options: lower.Options, Upper: upper, Work: filepath.Join(work, "work"),
	}, root); err != nil {
		return err
	}
	if err := p.step("trusting"); err != nil {
		return err
	}
	left, err := set.Install(root)
	if err != nil {
		return err
	}
	if left != "" {
		p.log.Info("trusted certificates were not added everywhere", "tree", lower.Tree, "left", left)
	}
	if _, err := overlay.Unmount(ctx, root); err != nil {
		return err
	}
	if err := likeRoot(upper, lower.Lower[0], overlay.Mapping{}); err != nil {
		return err
	}
	if shifted {
		if err := layer.Chown(ctx, upper, p.mapping.Host); err != nil {
			return fmt.Errorf("trusted certificates: %w", err)
		}
	}
	if err := syncTree(upper); err != nil {
		return err
	}
	if err := os.Rename(upper, p.store.certificates(key)); err != nil {
		return fmt.Errorf("trusted certificates: %w", err)
	}
	return nil
}

// syncTree makes what was written durable: an empty bundle after a power cut
// would stay.
func syncTree(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("trusted certificates: %w", err)
	}
	defer d.Close() //nolint:errcheck // synced before
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("trusted certificates: %w", err)
	}
	return nil
}

func dropWork(ctx context.Context, work string) error {
	if _, err := overlay.Unmount(ctx, filepath.Join(work, "root")); err != nil {
		return err
	}
	return layer.RemoveAll(ctx, work)
}

// collectCertificates removes the layers that no container stands on, and what
// is left of their making.
func (p *Provider) collectCertificates(ctx context.Context) error {
	entries, err := os.ReadDir(filepath.Dir(p.store.certificates("x")))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	keys := map[string]bool{}
	for _, e := range entries {
		keys[strings.TrimPrefix(strings.TrimSuffix(e.Name(), ".lock"), ".")] = true
	}
	var failed []error
	for key := range keys {
		failed = append(failed, p.collectLayer(ctx, key))
	}
	return errors.Join(failed...)
}

func (p *Provider) collectLayer(ctx context.Context, key string) error {
	l, err := tryLock(p.store.certificatesLock(key))
	if errors.Is(err, errLocked) {
		return nil
	}
	if err != nil {
		return err
	}
	used, err := p.usesCertificates(key)
	if err == nil {
		err = dropWork(ctx, p.store.certificatesWork(key))
	}
	if err == nil && !used {
		err = layer.RemoveAll(ctx, p.store.certificates(key))
	}
	if err != nil || used {
		l.release()
		return err
	}
	return l.remove()
}

// usesCertificates looks for a record that names the layer. The layer's lock is
// held, so none begins to.
func (p *Provider) usesCertificates(key string) (bool, error) {
	entries, err := os.ReadDir(filepath.Dir(p.store.record("x")))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("store: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		rec, err := readRecord(filepath.Join(filepath.Dir(p.store.record("x")), e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		if rec.Certificates == key {
			return true, nil
		}
	}
	return false, nil
}
