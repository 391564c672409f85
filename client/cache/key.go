package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"github.com/rootstock-cf/rootstock/catalog"
	"github.com/rootstock-cf/rootstock/object"
)

type space uint8

const (
	contents space = iota
	objects
	catalogs
	// The following have no names, only work in flight.
	checks   // a content being verified
	memories // an object fetched into memory; its sum is that of a name
)

// directory of each name space below the cache's.
var directory = [...]string{contents: "", objects: "objects/", catalogs: "catalogs/"}

// Key is a name of a content. Keys are comparable.
type Key struct {
	space space
	sum   object.ContentID
}

// Content names content by its own digest.
func Content(id object.ContentID) Key { return Key{contents, id} }

// Object names the content of one stored object. The compression belongs to
// the name: the same stored bytes can mean two contents.
func Object(h object.Hash, c object.Compression) Key {
	b := append(make([]byte, 0, 32), 'o', byte(c), byte(h.Algorithm))
	return Key{objects, sha256.Sum256(append(b, h.Digest[:]...))}
}

// Chunked names the content that several stored objects make together.
func Chunked(c object.Compression, chunks []catalog.Chunk) Key {
	h := sha256.New()
	b := append(make([]byte, 0, 64), 'c', byte(c))
	for _, chunk := range chunks {
		b = append(b, byte(chunk.Hash.Algorithm))
		b = append(b, chunk.Hash.Digest[:]...)
		b = binary.LittleEndian.AppendUint64(b, uint64(chunk.Size)) // #nosec G115 -- not negative
		h.Write(b)                                                  //nolint:errcheck // never fails
		b = b[:0]
	}
	k := Key{space: objects}
	h.Sum(k.sum[:0])
	return k
}

// Index names the compiled index of a catalog.
func Index(h object.Hash) Key {
	b := append(make([]byte, 0, 32), 'i', byte(h.Algorithm))
	return Key{catalogs, sha256.Sum256(append(b, h.Digest[:]...))}
}

// Table names the objects table of a tree as a repository has it.
func Table(repository string, tree object.ContentID) Key {
	b := append(make([]byte, 0, 128), 't')
	return Key{catalogs, sha256.Sum256(append(append(b, tree[:]...), repository...))}
}

// Image names the file system image of a tree, as version of its writer makes
// it.
func Image(tree object.ContentID, version uint32) Key {
	b := binary.LittleEndian.AppendUint32(append(make([]byte, 0, 64), 'e'), version)
	return Key{catalogs, sha256.Sum256(append(b, tree[:]...))}
}

// path is relative to the cache's directory.
func (k Key) path() string { return directory[k.space] + k.sum.CachePath() }

// parseName reads the digest out of a directory and a file name; false for
// anything path would not have written.
func parseName(dir, name string) (object.ContentID, bool) {
	var id object.ContentID
	if len(dir) != 2 || len(name) != 2*len(id)-2 {
		return id, false
	}
	if _, err := hex.Decode(id[:1], []byte(dir)); err != nil {
		return id, false
	}
	if _, err := hex.Decode(id[1:], []byte(name)); err != nil {
		return id, false
	}
	return id, id.CachePath() == dir+"/"+name
}
