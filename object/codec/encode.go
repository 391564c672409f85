package codec

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec/deflate"
)

// Encode appends the stored form of src to dst. The result depends on nothing
// but c and src: zlib is bit-identical to C zlib's default level, as CernVM-FS
// requires of certificates and metainfo and expects of all else
// (CVMFS-FORMAT 0.3).
func Encode(c object.Compression, dst, src []byte) ([]byte, error) {
	switch c {
	case object.None:
		return append(dst, src...), nil
	case object.Zlib:
		return deflate.Append(dst, src), nil
	case object.Zstd:
		return enzstd(dst, src)
	}
	return nil, fmt.Errorf("encode: unknown %s", c)
}

var zstders sync.Pool

// window bounds how far back a zstd match may reach, in bytes, and with it what
// each encoder and each decoder holds: a quarter of what the level's own window
// would take, for half a per cent more stored bytes on a root file system.
const window = 2 << 20

func enzstd(dst, src []byte) ([]byte, error) {
	e, pooled := zstders.Get().(*zstd.Encoder)
	if !pooled {
		var err error
		// No checksum of its own: the object's name is one already.
		e, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
			zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithZeroFrames(true), zstd.WithWindowSize(window))
		if err != nil {
			return nil, fmt.Errorf("start zstd encoder: %w", err)
		}
	}
	defer zstders.Put(e)
	return e.EncodeAll(src, dst), nil
}
