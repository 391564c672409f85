package profile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/rootstock-cf/rootstock/object"
)

// Bounds of a pack, in bytes.
const (
	// MaxPacked is the largest content that a pack holds.
	MaxPacked = 256 << 10
	// MaxPack bounds all contents of a pack together.
	MaxPack = 32 << 20
)

// packMagic begins a pack; its last byte is the version.
const packMagic = "RSPACK\x00\x01"

// rowSize is that of one row of a pack's head: a content's id and how many bytes
// of it follow, 0 for a content that the pack only names.
const rowSize = len(object.ContentID{}) + 4

// Packed is a row of a pack.
type Packed struct {
	ID   object.ContentID
	Data []byte // nil: only named
}

// AppendPack appends the pack of rows to b: a head that names all of them in
// order, and then the bytes of those that have any. One object thus holds what a
// container needs first, and the order of the rest. It returns an error wrapping
// [ErrInvalid] for what is beyond a pack's bounds.
func AppendPack(b []byte, rows []Packed) ([]byte, error) {
	if len(rows) > MaxOpens {
		return nil, fmt.Errorf("%w: pack of %d contents, more than %d", ErrInvalid, len(rows), MaxOpens)
	}
	b = append(b, packMagic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(rows))) // #nosec G115 -- at most MaxOpens
	total := 0
	for _, r := range rows {
		if len(r.Data) > MaxPacked {
			return nil, fmt.Errorf("%w: content of %d bytes in a pack", ErrInvalid, len(r.Data))
		}
		total += len(r.Data)
		b = append(b, r.ID[:]...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(r.Data))) // #nosec G115 -- at most MaxPacked
	}
	if total > MaxPack {
		return nil, fmt.Errorf("%w: pack of %d bytes", ErrInvalid, total)
	}
	for _, r := range rows {
		b = append(b, r.Data...)
	}
	return b, nil
}

// ReadPack reads a pack that has size bytes. It calls head once with all
// contents in order and how many bytes of each are in the pack, 0 for those that
// it only names, and then packed for each content that is in it; data is that
// content, verified, and good until packed returns. An error of packed ends it;
// its own errors wrap [ErrInvalid].
func ReadPack(r io.Reader, size int64, head func(ids []object.ContentID, sizes []int), packed func(id object.ContentID, data []byte) error) error {
	var fixed [len(packMagic) + 4]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return short(err)
	}
	n := int(binary.LittleEndian.Uint32(fixed[len(packMagic):]))
	if string(fixed[:len(packMagic)]) != packMagic || n > MaxOpens {
		return fmt.Errorf("%w: no head of a pack", ErrInvalid)
	}
	rows := make([]byte, n*rowSize)
	if _, err := io.ReadFull(r, rows); err != nil {
		return short(err)
	}
	ids, sizes := make([]object.ContentID, n), make([]int, n)
	seen := make(map[object.ContentID]bool, n)
	total := 0
	for i := range n {
		row := rows[i*rowSize:]
		ids[i] = object.ContentID(row[:len(object.ContentID{})])
		length := binary.LittleEndian.Uint32(row[len(object.ContentID{}):])
		if seen[ids[i]] || length > MaxPacked {
			return fmt.Errorf("%w: row %d of a pack", ErrInvalid, i)
		}
		seen[ids[i]], sizes[i] = true, int(length)
		total += sizes[i]
	}
	if total > MaxPack || size != int64(len(fixed)+len(rows)+total) {
		return fmt.Errorf("%w: pack of %d bytes that says it holds %d", ErrInvalid, size, total)
	}
	head(ids, sizes)
	buf := make([]byte, MaxPacked)
	for i, id := range ids {
		if sizes[i] == 0 {
			continue
		}
		data := buf[:sizes[i]]
		if _, err := io.ReadFull(r, data); err != nil {
			return short(err)
		}
		if got := object.ContentOf(data); !bytes.Equal(got[:], id[:]) {
			return fmt.Errorf("%w: content %s of a pack is %s", ErrInvalid, id, got)
		}
		if err := packed(id, data); err != nil {
			return err
		}
	}
	return nil
}

// short gives the reader's error; a pack that ends early is none of ours.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: pack ends early", ErrInvalid)
	}
	return err
}
