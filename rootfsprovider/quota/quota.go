// Package quota bounds what a container writes. The write layer is one
// directory; a backend makes it hold so many bytes and no more, knows how many
// it holds without walking it, and takes the bound away again.
//
// [Project] uses the project quotas of xfs and ext4 and costs nothing.
// [Loop] makes the directory a file system of its own, in a sparse file, and
// works everywhere at the cost of some 20 ms per container.
package quota

import (
	"context"
	"fmt"
	"path/filepath"
)

// Quota is a way to bound a directory. Implementations are used by concurrent
// processes for different directories.
type Quota interface {
	// Prepare bounds dir, an empty directory, to limit bytes, at least 1.
	// What a failed call leaves, Remove takes away.
	Prepare(ctx context.Context, dir string, limit int64) error
	// Usage returns the bytes in dir, which Prepare has bounded, in constant
	// time.
	Usage(dir string) (int64, error)
	// Remove takes away what Prepare made, but for dir and, where these lie
	// in it directly, its contents. Where there is nothing it does nothing.
	Remove(ctx context.Context, dir string) error
}

// Names of the backends, as records and messages have them.
const (
	NameProject = "project"
	NameLoop    = "loop"
)

// Backends are the ways there are to bound the directories of a store, an
// existing directory.
type Backends struct {
	project Project
	loop    Loop
}

// For returns the backends of store. They keep their own state below it. pool
// is how many file systems are made ahead for each limit; 0 for none.
func For(store string, pool int) Backends {
	return Backends{
		project: Project{IDs: filepath.Join(store, "projects")},
		loop:    Loop{Images: filepath.Join(store, "images"), Pool: Pool{filepath.Join(store, "pool"), pool}},
	}
}

// Probe returns the best backend and its name: project quotas if the file
// system that dir lies on enforces them, otherwise loop-mounted files.
func (b Backends) Probe(dir string) (Quota, string) {
	if b.project.Enforced(dir) {
		return b.project, NameProject
	}
	return b.loop, NameLoop
}

// Count makes the bytes in dir, an empty directory, known in constant time
// without bounding them, and returns the name of the backend that knows; ""
// where only a walk can tell: a file system of its own would bound dir.
func (b Backends) Count(dir string) (name string, err error) {
	if !b.project.Enforced(dir) {
		return "", nil
	}
	if err := b.project.Count(dir); err != nil {
		return "", err
	}
	return NameProject, nil
}

// Named returns the backend that a record names.
func (b Backends) Named(name string) (Quota, error) {
	switch name {
	case NameProject:
		return b.project, nil
	case NameLoop:
		return b.loop, nil
	}
	return nil, fmt.Errorf("quota %q is not one of project, loop", name)
}

// Fill makes file systems ahead, if that was asked for.
func (b Backends) Fill(ctx context.Context) error { return b.loop.Pool.Fill(ctx) }

// Drain removes what was made ahead and is no longer wanted.
func (b Backends) Drain(ctx context.Context) error { return b.loop.Pool.Drain(ctx) }

// Wanting reports whether Fill has something to do.
func (b Backends) Wanting() bool { return b.loop.Pool.Wanting() }

// Remove takes away whatever backend bounded dir, for which nobody has to
// remember it.
func (b Backends) Remove(ctx context.Context, dir string) error {
	if err := b.loop.Remove(ctx, dir); err != nil {
		return err
	}
	return b.project.Remove(ctx, dir)
}
