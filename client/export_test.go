package client

import "context"

// WalkAtMost compiles a directory of so many entries.
func (r *Repository) WalkAtMost(ctx context.Context, d Directory, most int) error {
	_, err := r.walkDirectory(ctx, d, most)
	return err
}
