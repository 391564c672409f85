package cache

import (
	"crypto/sha256"
	"crypto/sha512"
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
	either   // contents or objects: see Name
)

// directory of each name space below the cache's.
var directory = [...]string{contents: "", objects: "objects/", catalogs: "catalogs/"}

// StoredDir is where in the cache's directory contents lie by the names of what
// they were stored as: the path of [Object] and [Chunked] below it is that of
// [Key.ID].
const StoredDir = "objects"

// Key is a name of a content. Keys are comparable.
type Key struct {
	space space
	sum   object.ContentID
}

// Content names content by its own digest.
func Content(id object.ContentID) Key { return Key{contents, id} }

// Object names the content of one stored object. The compression belongs to
// the name: the same stored bytes can mean two contents.
//
// This and Chunked use SHA-512/256, so that nobody can make a content whose own
// digest is such a name: where both are asked for by their digits alone, they
// must not be mistaken for each other.
func Object(h object.Hash, c object.Compression) Key {
	b := append(make([]byte, 0, 32), 'o', byte(c), byte(h.Algorithm))
	return Key{objects, sha512.Sum512_256(append(b, h.Digest[:]...))}
}

// Chunked names the content that several stored objects make together.
func Chunked(c object.Compression, chunks []catalog.Chunk) Key {
	h := sha512.New512_256()
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

// Name names what has id for its own digest, or for the ID of the name of what it
// was stored as. It is for looking: what is stored has to be given one or the
// other.
func Name(id object.ContentID) Key { return Key{either, id} }

// ID is the digits of a name, which tell contents and what [Object] and
// [Chunked] name apart.
func (k Key) ID() object.ContentID { return k.sum }

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

// Variables names the list of what a directory's links depend on.
func Variables(directory object.ContentID) Key {
	return Key{catalogs, sha256.Sum256(append([]byte{'v'}, directory[:]...))}
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
