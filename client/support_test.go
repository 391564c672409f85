package client_test

import (
	"crypto/rsa"
	"testing"

	"github.com/rootstock-cf/rootstock/manifest"
)

func publicKeys(t *testing.T, path string) []*rsa.PublicKey {
	t.Helper()
	keys, err := manifest.LoadPublicKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}
