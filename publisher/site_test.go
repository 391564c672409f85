package publisher_test

import (
	"bytes"
	"crypto/rsa"
	"io"

	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
	"github.com/rootstock-cf/rootstock/store"
)

var master *rsa.PrivateKey

// contents decodes every file object of the store.
func (s *site) contents() (all [][]byte) {
	s.t.Helper()
	err := s.o.Store.(store.Lister).List(s.t.Context(), "data/", func(name string, _ int64) error {
		h, typ, ok := object.ParsePath(name)
		if !ok || typ != object.Bulk {
			return nil
		}
		r, err := s.o.Store.Get(s.t.Context(), name)
		if err != nil {
			return err
		}
		defer r.Close()
		stored, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		var plain bytes.Buffer
		_, err = codec.Decode(&plain, bytes.NewReader(stored), codec.Expect{Hash: h, Compression: object.Zstd, Size: -1, Limit: 1 << 20})
		all = append(all, plain.Bytes())
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}
