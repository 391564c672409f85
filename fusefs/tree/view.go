package tree

import (
	"context"

	"github.com/rootstock-cf/rootstock/fusefs/view"
)

// View is a repository as a tree shows it. Package view states the rules that
// all methods follow.
type View interface {
	Names
	Inodes
	Files
	XAttrs
	Space
}

// Names finds nodes.
type Names interface {
	// Root is the root directory of the newest revision.
	Root() view.Node

	// Lookup returns what name is in the directory parent. It wraps
	// fs.ErrNotExist only if that name is known to be absent: the kernel
	// remembers it.
	Lookup(ctx context.Context, parent view.Node, name string) (view.Node, view.Attr, error)

	// ReadDir calls add with the entries of a directory, without "." and
	// "..", beginning with the from-th, in an order that is always the
	// same, until add returns false. A from beyond the last is no error.
	ReadDir(ctx context.Context, dir view.Node, from int, add func(name string, n view.Node, a view.Attr) bool) error
}

// Inodes describes nodes.
type Inodes interface {
	Attr(ctx context.Context, n view.Node) (view.Attr, error)

	// Readlink returns a symbolic link's target, at most 4095 bytes.
	Readlink(ctx context.Context, n view.Node) ([]byte, error)
}

// Files opens regular files.
type Files interface {
	// Open returns the content of n, which the caller closes. The content
	// outlives ctx. One that has a method Intact() bool is asked, when it is
	// read again after a rest, whether it is still good.
	Open(ctx context.Context, n view.Node) (view.Content, error)
}

// XAttrs reads extended attributes.
type XAttrs interface {
	XAttr(ctx context.Context, n view.Node, name string) ([]byte, error)
	ListXAttr(ctx context.Context, n view.Node) ([]string, error)

	// AnyXAttrs reports whether any node, now or in a revision to come, may
	// have an attribute outside the "user." and "xfsroot." namespaces, which
	// the view computes and are asked for in any case.
	AnyXAttrs() bool
}

// Space describes the whole.
type Space interface {
	Statfs(ctx context.Context) (view.Statfs, error)
}
