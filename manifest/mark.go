package manifest

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/rootstock-cf/rootstock/object"
)

// Mark is how far a client has come with a repository: the newest revision it
// verified. Kept across restarts, it is what tells a rollback. Its text form
// is the stock client's breadcrumb (CVMFS-FORMAT 6.6). The zero value is that
// of a client that has seen nothing.
type Mark struct {
	RootCatalog object.Hash
	Published   int64 // seconds since 1970 UTC
	Revision    uint64
}

// Mark returns the mark that m leaves.
func (m Manifest) Mark() Mark {
	return Mark{RootCatalog: m.RootCatalog, Published: m.Published, Revision: m.Revision}
}

// String returns the breadcrumb, without a newline.
func (k Mark) String() string {
	return fmt.Sprintf("%sT%dR%d", k.RootCatalog, k.Published, k.Revision)
}

// ParseMark reads a breadcrumb; one of an old client has no revision, which
// then is 0. Errors wrap [ErrMalformed].
func ParseMark(s string) (Mark, error) {
	hash, rest, ok := strings.Cut(s, "T")
	if !ok {
		return Mark{}, fmt.Errorf("%w breadcrumb %.80q", ErrMalformed, s)
	}
	var k Mark
	var err error
	if k.RootCatalog, err = object.ParseHash(hash); err != nil {
		return Mark{}, fmt.Errorf("%w breadcrumb: %w", ErrMalformed, err)
	}
	published, revision, ok := strings.Cut(rest, "R")
	if k.Published, err = decimal(published); err != nil {
		return Mark{}, fmt.Errorf("%w breadcrumb: time: %w", ErrMalformed, err)
	}
	if !ok {
		return k, nil
	}
	if k.Revision, err = strconv.ParseUint(revision, 10, 64); err != nil {
		return Mark{}, fmt.Errorf("%w breadcrumb: revision: %w", ErrMalformed, err)
	}
	return k, nil
}

// Newer returns nil if a client at prev may go to m, or stay there, and an
// error that wraps [ErrRollback] if m has a lower revision or an older time
// stamp, or is another root catalog under the same revision: two different
// repositories claim to be one.
func Newer(prev Mark, m Manifest) error {
	switch {
	case m.Revision < prev.Revision:
		return fmt.Errorf("%s: %w: revision %d was seen, the server offers %d", m.Name, ErrRollback, prev.Revision, m.Revision)
	case m.Published < prev.Published:
		return fmt.Errorf("%s: %w: revision %d is dated %d s before what was seen (time stamp %d, now %d)",
			m.Name, ErrRollback, m.Revision, prev.Published-m.Published, prev.Published, m.Published)
	case m.Revision == prev.Revision && !prev.RootCatalog.IsZero() && m.RootCatalog != prev.RootCatalog:
		return fmt.Errorf("%s: %w: revision %d had root catalog %s, the server offers %s under the same number",
			m.Name, ErrRollback, m.Revision, prev.RootCatalog, m.RootCatalog)
	}
	return nil
}
