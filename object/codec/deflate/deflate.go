// Package deflate writes zlib streams (RFC 1950, RFC 1951) that are byte for
// byte those of C zlib 1.2.8 and later at its default level.
//
// CernVM-FS names an object by the hash of its stored bytes, and stock
// software recompresses some objects and expects to arrive at the same name
// (CVMFS-FORMAT 0.3). Deflate leaves its encoder free to choose matches, block
// ends and codes, so "the same name" means making every one of zlib's choices,
// its accidents included. This package makes them for one setting only:
// deflateInit with Z_DEFAULT_COMPRESSION (level 6, a window of 2^15 bytes,
// memLevel 8, default strategy) over input that is complete from the start.
// How that input was divided over calls does not show in zlib's output, so
// there is nothing else to imitate.
//
// Bytes flow through three stages:
//
//   - parse.go walks the input and decides, position by position, between a
//     literal and a match; search.go finds the match in the chains of chain.go.
//     What is decided becomes a symbol (symbols.go).
//   - block.go turns each full buffer of symbols into a block, in the form
//     (stored, fixed codes, codes of its own) that zlib finds shortest.
//     huffman.go builds codes, lengths.go describes them in a block's header.
//   - emit.go and bits.go pack symbols and other bits into the output.
//
// # Maintaining it
//
// Every constant and every comparison here is part of the output format: a <
// in place of a <=, or a search that finds a better match, changes the names of
// objects. The differential tests decide whether a change is right; run them
// with ROOTSTOCK_LONG=1, and the fuzzer for a while, before believing one.
//
// What may change is how the same choice is arrived at. Two things are done
// differently from zlib: the input is read in place and only the effect of the
// sliding window is kept (see parse), and most searches do not walk zlib's
// chain of candidates but find what that walk would have found (see chains and
// search). The latter makes this package about twice as fast as C zlib on
// machine code.
package deflate

import (
	"hash/adler32"
	"sync"
)

const (
	windowSize = 1 << 15
	windowMask = windowSize - 1
	hashBits   = 15
	hashMask   = 1<<hashBits - 1
	// hashShift makes the oldest of three bytes leave the hash just when a
	// fourth enters it.
	hashShift = (hashBits + minMatch - 1) / minMatch

	minMatch = 3
	maxMatch = 258
	// minLookahead is how many bytes zlib wants to see ahead of a position:
	// the longest match and the hash of the position behind it.
	minLookahead = maxMatch + minMatch + 1
	// maxDist is the longest distance zlib uses. It is less than the window
	// so that reading ahead cannot overwrite what a match may refer to.
	maxDist = windowSize - minLookahead
	// tooFar is the distance beyond which three literals are thought to be
	// cheaper than a match of three bytes.
	tooFar = 4096

	// The parameters of level 6.
	goodLength = 8   // a previous match this long cuts the search to a quarter
	maxLazy    = 16  // a previous match this long ends it
	niceLength = 128 // a match this long is taken without looking further
	maxChain   = 128 // candidates looked at

	// maxSymbols ends a block. zlib's buffer has one place more, which it
	// never fills.
	maxSymbols = 1<<14 - 1
)

// An encoder is the memory of one running call, some 530 KiB. It is reused
// without being cleared: see next.
type encoder struct {
	chains
	block blockWriter
}

var encoders = sync.Pool{New: func() any { return new(encoder) }}

// Append appends the zlib stream of src to dst and returns the extended slice.
// The stream is what C zlib's compress2(src, Z_DEFAULT_COMPRESSION) writes, for
// every src of any length. It cannot fail. dst must not overlap src.
//
// Append may be called from several goroutines at once. It allocates nothing
// except to grow dst, of which up to 16 bytes more than the result are used as
// scratch if its capacity has them.
func Append(dst, src []byte) []byte {
	e := encoders.Get().(*encoder)
	defer encoders.Put(e)
	return e.append(dst, src)
}

func (e *encoder) append(dst, src []byte) []byte {
	e.block.reset(append(dst, 0x78, 0x9c)) // 32 KiB window, default level, no dictionary
	e.parse(src)
	sum := adler32.Checksum(src)
	dst = append(e.block.bits.buf, byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
	e.block.bits.reset(nil)
	return dst
}
