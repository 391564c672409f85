package shift

import (
	"encoding/binary"
	"strings"

	"github.com/rootstock-cf/rootstock/fusefs/view"
)

// Extended attributes that hold ids.
const (
	attrCapability = "security.capability"
	attrACLs       = "system.posix_acl_" // access and default
)

// The three revisions of security.capability (linux/capability.h): a word with
// the revision in its highest byte, then words of permitted and inheritable
// bits, one pair in the first revision and two since. The third ends with the
// root of the user namespace that it counts in, and below.
const (
	revisionMask = 0xff000000
	revision1    = 0x01000000
	revision2    = 0x02000000
	revision3    = 0x03000000

	size1 = 12
	size2 = 20
	size3 = 24
)

// capability makes a file's capabilities those of the container's root. The
// kernel does the same for an idmapped mount: an attribute that names no root
// means that of the file system, which is the container's there; without a
// name it would count in every namespace of the host, the container's
// neighbours included. What names a root outside the mapping counts nowhere,
// and is absent. What is malformed stays so, for the kernel to refuse.
func (t *ids) capability(v []byte) ([]byte, error) {
	if len(v) < size1 {
		return v, nil
	}
	magic, root := binary.LittleEndian.Uint32(v), uint32(0)
	switch {
	case magic&revisionMask == revision1 && len(v) == size1:
	case magic&revisionMask == revision2 && len(v) == size2:
	case magic&revisionMask == revision3 && len(v) == size3:
		root = binary.LittleEndian.Uint32(v[size2:])
	default:
		return v, nil
	}
	host, ok := t.uid(root)
	if !ok {
		return nil, view.ErrNoXAttr
	}
	out := make([]byte, size3)
	copy(out, v[:min(len(v), size2)])
	binary.LittleEndian.PutUint32(out, magic&^revisionMask|revision3)
	binary.LittleEndian.PutUint32(out[size2:], host)
	return out, nil
}

// An access control list is a version and entries of tag, permissions and id
// (linux/posix_acl_xattr.h), of which those of the tags below have one.
const (
	aclVersion = 2
	aclHeader  = 4
	aclEntry   = 8
	aclUser    = 0x02
	aclGroup   = 0x08
)

// acl translates the ids in an access control list.
func (t *ids) acl(v []byte) []byte {
	if len(v) < aclHeader || (len(v)-aclHeader)%aclEntry != 0 || binary.LittleEndian.Uint32(v) != aclVersion {
		return v
	}
	out := append([]byte(nil), v...)
	for e := out[aclHeader:]; len(e) > 0; e = e[aclEntry:] {
		id := binary.LittleEndian.Uint32(e[4:])
		switch binary.LittleEndian.Uint16(e) {
		case aclUser:
			id, _ = t.uid(id)
		case aclGroup:
			id, _ = t.gid(id)
		}
		binary.LittleEndian.PutUint32(e[4:], id)
	}
	return out
}

func (t *ids) xattr(name string, v []byte) ([]byte, error) {
	switch {
	case name == attrCapability:
		return t.capability(v)
	case strings.HasPrefix(name, attrACLs):
		return t.acl(v), nil
	}
	return v, nil
}
