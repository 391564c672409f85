package local

import "errors"

// ErrDisk is the failure of a store made by BreakSync.
var ErrDisk = errors.New("disk is broken")

// BreakSync makes the next sync of s fail, and only that: the kernel reports
// a failed write-back once.
func BreakSync(s *Store) {
	whole := s.syncfs
	s.syncfs = func(int) error {
		s.syncfs = whole
		return ErrDisk
	}
}
