package imagemeta

import (
	"fmt"
	"math"

	"github.com/rootstock-cf/rootstock/object"
)

// fields reads what follows the name of an entry that is not a follower. It
// refuses whatever the Writer would have left out.
func (r *Reader) fields(e *Entry, head byte) error {
	kind := head & kindMask
	if err := r.owner(e, head, kind); err != nil {
		return err
	}
	if err := r.time(e, head); err != nil {
		return err
	}
	var err error
	switch kind {
	case kindRegular:
		err = r.content(e)
	case kindSymlink:
		e.Target, err = r.string(MaxTarget)
	case kindChar, kindBlock:
		err = r.device(e)
	}
	if err != nil {
		return err
	}
	if head&hasXAttrs != 0 {
		return r.attributes(e)
	}
	return nil
}

func (r *Reader) owner(e *Entry, head, kind byte) error {
	if head&samePerm != 0 {
		e.Mode |= r.prev.perm[kind]
	} else {
		perm, err := r.in.uvarint(modePerm)
		if err != nil {
			return err
		}
		if uint32(perm) == r.prev.perm[kind] { // #nosec G115 -- at most modePerm
			return fmt.Errorf("%w: permissions stated again", ErrInvalid)
		}
		e.Mode |= uint32(perm) // #nosec G115
	}
	e.UID, e.GID = r.prev.uid, r.prev.gid
	if head&sameOwner != 0 {
		return nil
	}
	uid, err := r.in.uvarint(math.MaxUint32)
	if err != nil {
		return err
	}
	gid, err := r.in.uvarint(math.MaxUint32)
	if err != nil {
		return err
	}
	e.UID, e.GID = uint32(uid), uint32(gid) // #nosec G115 -- bounded
	if e.UID == r.prev.uid && e.GID == r.prev.gid {
		return fmt.Errorf("%w: owner stated again", ErrInvalid)
	}
	return nil
}

func (r *Reader) time(e *Entry, head byte) error {
	e.MTime, e.Nsec = r.prev.mtime, r.prev.nsec
	if head&sameTime != 0 {
		return nil
	}
	delta, err := r.in.uvarint(math.MaxUint64)
	if err != nil {
		return err
	}
	nsec, err := r.in.uvarint(1e9 - 1)
	if err != nil {
		return err
	}
	e.MTime += unzigzag(delta)
	e.Nsec = uint32(nsec) // #nosec G115 -- bounded
	if e.MTime == r.prev.mtime && e.Nsec == r.prev.nsec {
		return fmt.Errorf("%w: time stated again", ErrInvalid)
	}
	return nil
}

func (r *Reader) content(e *Entry) error {
	size, err := r.in.uvarint(math.MaxInt64)
	if err != nil {
		return err
	}
	e.Size = int64(size) // #nosec G115 -- bounded
	if size == 0 {
		e.Content = object.EmptyContent
		return nil
	}
	id, err := r.in.take(len(e.Content))
	if err != nil {
		return err
	}
	copy(e.Content[:], id)
	return nil
}

func (r *Reader) device(e *Entry) error {
	major, err := r.in.uvarint(maxMajor)
	if err != nil {
		return err
	}
	minor, err := r.in.uvarint(maxMinor)
	if err != nil {
		return err
	}
	e.Major, e.Minor = uint32(major), uint32(minor) // #nosec G115 -- bounded
	return nil
}

// attributes reads the extended attributes. Their number is not believed but
// lived to see: each takes bytes of the input.
func (r *Reader) attributes(e *Entry) error {
	n, err := r.in.uvarint(math.MaxInt32)
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("%w: xattrs announced but none given", ErrInvalid)
	}
	for range n {
		var x XAttr
		if x.Name, err = r.string(MaxXAttrName); err != nil {
			return err
		}
		size, err := r.in.uvarint(MaxXAttrValue)
		if err != nil {
			return err
		}
		value, err := r.in.take(int(size)) // #nosec G115 -- bounded
		if err != nil {
			return err
		}
		x.Value = append(make([]byte, 0, len(value)), value...)
		e.XAttrs = append(e.XAttrs, x)
	}
	return nil
}

// string reads a length of at most limit and that many bytes.
func (r *Reader) string(limit uint64) (string, error) {
	n, err := r.in.uvarint(limit)
	if err != nil {
		return "", err
	}
	b, err := r.in.take(int(n)) // #nosec G115 -- limits are small
	if err != nil {
		return "", err
	}
	return r.text.keep(b)
}
