package manifest_test

import (
	"bytes"
	"context"
	"crypto/rsa"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
)

const fqrn = "test.example.org"

// now is when the tests of this package take place.
var now = time.Date(2026, 11, 22, 10, 30, 0, 0, time.UTC)

type keyring struct {
	*manifest.Keys
	master *rsa.PrivateKey
}

// ours and foreign are made once: primes are slow.
var (
	ours    = sync.OnceValue(newKeyring)
	foreign = sync.OnceValue(newKeyring)
)

func newKeyring() keyring {
	k, master, err := manifest.GenerateKeys(fqrn, manifest.KeyOptions{Bits: 2048, Now: now})
	if err != nil {
		panic(err)
	}
	return keyring{k, master}
}

// sample is a manifest with every line that is ever written.
func sample(t testing.TB) manifest.Manifest {
	t.Helper()
	certificate := stored(t, ours().Certificate.PEM)
	return manifest.Manifest{
		RootCatalog: object.SHAKE128.Sum([]byte("root")), CatalogSize: 57344, TTL: 240, Revision: 7,
		GarbageCollectable: true, AltPaths: true, Name: fqrn,
		Certificate: certificate, History: object.SHAKE128.Sum([]byte("history")),
		Published: 1700000000, Metainfo: object.SHAKE128.Sum([]byte("meta")),
		Reflog: object.SHAKE128.Sum([]byte("reflog")),
	}
}

// stored returns the name of text as an object.
func stored(t testing.TB, text []byte) object.Hash {
	t.Helper()
	b, err := codec.Encode(object.Zlib, nil, text)
	if err != nil {
		t.Fatal(err)
	}
	return object.SHAKE128.Sum(b)
}

// golden returns a directory of repositories that stock CernVM-FS wrote.
func golden(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("ROOTSTOCK_GOLDEN")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "golden")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("SKIPPED, nothing is compared with stock CernVM-FS: set ROOTSTOCK_GOLDEN to its golden repositories (%v)", err)
	}
	return dir
}

// certificates reads certificate objects from a repository's directory as a
// client would from a server.
func certificates(repo string) func(context.Context, object.Hash) ([]byte, error) {
	return func(_ context.Context, h object.Hash) ([]byte, error) {
		f, err := os.Open(filepath.Join(repo, filepath.FromSlash(object.Path(h, object.Certificate))))
		if err != nil {
			return nil, err
		}
		defer f.Close()
		var b bytes.Buffer
		_, err = codec.Decode(&b, f, codec.Expect{Hash: h, Compression: object.Zlib, Size: -1, Limit: manifest.MaxSize})
		return b.Bytes(), err
	}
}

func readFile(t testing.TB, elem ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFile(t testing.TB, path string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// openssl runs the command line tool, the independent judge of what we sign.
func openssl(t testing.TB, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skipf("SKIPPED, signatures are compared with nothing else: %v", err)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// rsaPublic undoes an RSA signature and nothing more: the padded block.
func rsaPublic(key *rsa.PublicKey, sig []byte) []byte {
	m := new(big.Int).Exp(new(big.Int).SetBytes(sig), big.NewInt(int64(key.E)), key.N)
	return m.FillBytes(make([]byte, key.Size()))
}
