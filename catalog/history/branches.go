package history

import (
	"fmt"

	"github.com/rootstock-cf/rootstock/catalog/internal/sqlfile"
)

// Branch is a line of tags beside the default one, whose name is empty.
type Branch struct {
	Name    string
	Parent  string // of the default branch: none
	Initial uint64 // first revision
}

// Branches returns the branches, which a history of a schema revision before 3
// does not have. Names are as they are in the file.
func (r *Reader) Branches() ([]Branch, error) {
	have, err := r.db.Columns("branches")
	if err != nil || len(have) == 0 {
		return nil, err
	}
	var all []Branch
	err = r.db.Query("SELECT branch, parent, initial_revision FROM branches NOT INDEXED", nil, func(rows *sqlfile.Rows) error {
		b := Branch{Name: rows.Text(0, maxName), Parent: rows.TextOr(1, maxName, "")}
		initial := rows.IntOr(2, 0)
		if rows.Err() != nil {
			return nil
		}
		if initial < 0 {
			return fmt.Errorf("%w: branch %q begins at revision %d", ErrInvalid, b.Name, initial)
		}
		b.Initial = uint64(initial)
		all = append(all, b)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list branches: %w", err)
	}
	return all, nil
}
