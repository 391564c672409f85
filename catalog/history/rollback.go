package history

import "fmt"

// Rollback records that the repository went back to the tag to, whose root
// catalog is now root under a new revision (CVMFS-FORMAT 3.2). Tags of the
// default branch that are younger than to are removed and returned, youngest
// first; to itself moves to the new revision, trunk is it, and there is no
// trunk-previous until the next [Writer.Publish].
func (w *Writer) Rollback(to, root Tag) (removed []Tag, err error) {
	all, err := w.List()
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		gone := t.Branch == "" && t.Revision > to.Revision || t.Name == to.Name ||
			t.Name == Trunk || t.Name == TrunkPrevious
		if !gone {
			continue
		}
		if err := w.Remove(t.Name); err != nil {
			return nil, fmt.Errorf("roll back to %s: %w", to.Name, err)
		}
		if t.Name != to.Name && t.Name != Trunk && t.Name != TrunkPrevious {
			removed = append(removed, t)
		}
	}
	to.Root, to.Revision, to.Timestamp, to.Size = root.Root, root.Revision, root.Timestamp, root.Size
	trunk := to
	trunk.Name, trunk.Description = Trunk, trunkDescription
	put := []Tag{to, trunk}
	if to.Name == TrunkPrevious {
		put = put[1:]
	}
	for _, t := range put {
		if err := w.Replace(t); err != nil {
			return nil, fmt.Errorf("roll back to %s: %w", to.Name, err)
		}
	}
	return removed, nil
}
