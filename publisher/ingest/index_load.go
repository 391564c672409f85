package ingest

import (
	"bytes"
	"encoding/binary"
	"math"

	"github.com/rootstock-cf/rootstock/object"
)

func (x *Index) header() []byte {
	b := append([]byte(indexMagic), byte(x.key.compression), byte(x.key.algorithm))
	for _, n := range []int64{x.key.chunking.Min, x.key.chunking.Avg, x.key.chunking.Max} {
		b = binary.LittleEndian.AppendUint64(b, uint64(n)) // #nosec G115 -- not negative
	}
	return binary.LittleEndian.AppendUint32(b, checksum(b))
}

// load reads the file's bytes and returns how many of them are good: 0 if it
// is no index for these settings.
func (x *Index) load(b []byte) (good int) {
	x.records = make(map[object.ContentID]record, len(b)/objectBytes)
	x.lists = map[object.ContentID][]object.ContentID{}
	if !bytes.HasPrefix(b, x.header()) {
		return 0
	}
	good = headerBytes
	for {
		n := x.loadRecord(b[good:])
		if n == 0 {
			return good
		}
		good += n
	}
}

// loadRecord reads the record at the beginning of b and returns its length, 0
// if it is not a good one.
func (x *Index) loadRecord(b []byte) int {
	const head = 1 + len(object.ContentID{})
	if len(b) < head+4 {
		return 0
	}
	id := object.ContentID(b[1:])
	switch b[0] {
	case kindObject:
		if len(b) < objectBytes || !intact(b[:objectBytes]) {
			return 0
		}
		size, stored := binary.LittleEndian.Uint64(b[head:]), binary.LittleEndian.Uint64(b[head+8:])
		if size > math.MaxInt64 || stored > math.MaxInt64 {
			return 0
		}
		x.records[id] = record{
			size: int64(size), stored: int64(stored), // #nosec G115 -- checked
			hash: object.Hash{Algorithm: x.key.algorithm, Digest: [object.DigestSize]byte(b[head+16:])},
		}
		return objectBytes
	case kindList:
		n := int64(binary.LittleEndian.Uint32(b[head:]))
		size := int64(head) + 4 + n*int64(len(id)) + 4
		if n == 0 || size > int64(len(b)) || !intact(b[:size]) {
			return 0
		}
		ids := make([]object.ContentID, n)
		for i := range ids {
			ids[i] = object.ContentID(b[head+4+i*len(id):])
		}
		x.lists[id] = ids
		return int(size)
	}
	return 0
}

func intact(record []byte) bool {
	end := len(record) - 4
	return checksum(record[:end]) == binary.LittleEndian.Uint32(record[end:])
}
