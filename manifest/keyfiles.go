package manifest

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// The key files of a repository, named as CernVM-FS names them in
// /etc/cvmfs/keys (CVMFS-FORMAT 1.4.3).
const (
	releaseSuffix     = ".key"
	certificateSuffix = ".crt"
	publicSuffix      = ".pub"
	masterSuffix      = ".masterkey"
)

// MasterKeyFile returns where dir holds the master key of repository fqrn.
func MasterKeyFile(dir, fqrn string) string { return filepath.Join(dir, fqrn+masterSuffix) }

// PublicKeyFile returns where dir holds the master public key of fqrn.
func PublicKeyFile(dir, fqrn string) string { return filepath.Join(dir, fqrn+publicSuffix) }

// ReadKeys reads FQRN.key and FQRN.crt from dir, and FQRN.pub if it is there.
// It never opens the master key. A certificate that is not the key's is an
// error: what it signed would be refused by every client.
func ReadKeys(dir, fqrn string) (*Keys, error) {
	if err := CheckName(fqrn); err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	k := &Keys{Name: fqrn}
	keyFile := filepath.Join(dir, fqrn+releaseSuffix)
	text, err := readKeyFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("release key: %w", hint(err))
	}
	if k.Release, err = parsePrivateKey(text); err != nil {
		return nil, fmt.Errorf("release key %s: %w", keyFile, err)
	}
	crtFile := filepath.Join(dir, fqrn+certificateSuffix)
	if text, err = readKeyFile(crtFile); err != nil {
		return nil, fmt.Errorf("certificate: %w", hint(err))
	}
	if k.Certificate, err = ParseCertificate(text); err != nil {
		return nil, fmt.Errorf("read %s: %w", crtFile, err)
	}
	if !k.Certificate.Key.Equal(&k.Release.PublicKey) {
		return nil, fmt.Errorf("certificate %s is not that of the release key %s; put the pair that belongs together into one directory",
			crtFile, keyFile)
	}
	masters, err := LoadPublicKeys(PublicKeyFile(dir, fqrn))
	switch {
	case err == nil:
		k.Public = masters[0]
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return k, nil
}

// ReadMasterKey reads FQRN.masterkey from dir, to sign a whitelist.
func ReadMasterKey(dir, fqrn string) (*rsa.PrivateKey, error) {
	if err := CheckName(fqrn); err != nil {
		return nil, fmt.Errorf("read master key: %w", err)
	}
	file := MasterKeyFile(dir, fqrn)
	text, err := readKeyFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("master key: %w; signing a whitelist needs it: name the directory it was moved to", err)
	} else if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	key, err := parsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("master key %s: %w", file, err)
	}
	return key, nil
}

// LoadPublicKeys reads master public keys from PEM files. One file may hold
// several, for a change of keys.
func LoadPublicKeys(paths ...string) ([]*rsa.PublicKey, error) {
	var all []*rsa.PublicKey
	for _, path := range paths {
		text, err := readKeyFile(path)
		if err != nil {
			return nil, fmt.Errorf("public key: %w", err)
		}
		keys, err := parsePublicKeys(text)
		if err != nil {
			return nil, fmt.Errorf("public key %s: %w", path, err)
		}
		all = append(all, keys...)
	}
	return all, nil
}

// ReadSigner reads the private key in a PEM file, whichever kind it is: not a
// repository's, which are RSA, but one that signs statements about trees.
func ReadSigner(path string) (crypto.Signer, error) {
	text, err := readKeyFile(path)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	key, err := parseSigner(text)
	if err != nil {
		return nil, fmt.Errorf("private key %s: %w", path, err)
	}
	return key, nil
}

// ReadVerifiers reads what ReadSigner's counterparts are: public keys of any
// kind, and those in certificates, such as a repository's FQRN.crt.
func ReadVerifiers(paths ...string) ([]crypto.PublicKey, error) {
	var all []crypto.PublicKey
	for _, path := range paths {
		text, err := readKeyFile(path)
		if err != nil {
			return nil, fmt.Errorf("public key: %w", err)
		}
		keys, err := parseVerifiers(text, true)
		if err != nil {
			return nil, fmt.Errorf("public key %s: %w", path, err)
		}
		all = append(all, keys...)
	}
	return all, nil
}

// ParsePublicKeys reads master public keys from PEM text, for configurations
// that hold the keys themselves.
func ParsePublicKeys(text []byte) ([]*rsa.PublicKey, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("public key: larger than %d bytes: this is no key", MaxSize)
	}
	keys, err := parsePublicKeys(text)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	return keys, nil
}

// Write stores k and the master key in dir, which it makes with mode 0700 if
// need be: private keys with mode 0600, the others 0644. It never replaces a
// file: if one of the four is there already it writes none and returns an
// error that wraps fs.ErrExist.
func (k *Keys) Write(dir string, master *rsa.PrivateKey) (err error) {
	public, err := marshalPublicKey(&master.PublicKey)
	if err != nil {
		return err
	}
	files := []struct {
		path string
		mode fs.FileMode
		text []byte
	}{
		{MasterKeyFile(dir, k.Name), 0o600, marshalPrivateKey(master)},
		{filepath.Join(dir, k.Name+releaseSuffix), 0o600, marshalPrivateKey(k.Release)},
		{filepath.Join(dir, k.Name+certificateSuffix), 0o644, k.Certificate.PEM},
		{PublicKeyFile(dir, k.Name), 0o644, public},
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("directory for keys: %w", err)
	}
	var written []string
	defer func() {
		if err == nil {
			return
		}
		for _, path := range written {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	for _, f := range files {
		created, werr := writeNew(f.path, f.mode, f.text)
		if created {
			written = append(written, f.path)
		}
		if errors.Is(werr, fs.ErrExist) {
			return fmt.Errorf("write key: %w; keys are never replaced: name another directory, or move the old ones away", werr)
		} else if werr != nil {
			return fmt.Errorf("write key: %w", werr)
		}
	}
	return syncDir(dir)
}

// writeNew makes a file durable that must not be there; created tells whether
// it made one, complete or not.
func writeNew(path string, mode fs.FileMode, text []byte) (created bool, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return false, err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(mode) // whatever the umask
	}
	if err == nil {
		err = f.Sync()
	}
	return true, errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("make keys durable: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("make keys durable: %w", err)
	}
	return nil
}

// readKeyFile reads a file that is no larger than a key can be.
func readKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, err
	}
	if len(text) > MaxSize {
		return nil, fmt.Errorf("%s is larger than %d bytes: this is no key", path, MaxSize)
	}
	return text, nil
}

// hint tells where a missing key comes from.
func hint(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; name the directory that init wrote the keys to", err)
	}
	return err
}
