// Package fetch brings files of a repository to a cell: over HTTP, through
// proxies, from the first server that has them intact.
//
// Everything is one small interface, [Fetcher], and decorators over it. What
// flows through [New]'s stack, from the outside in:
//
//	limit( servers( proxies( retry( http ))))
//
// A Fetcher hands out bytes as a server sent them. Whoever needs to trust them
// calls [Object], which checks hash, size and coding and goes back for another
// copy when they are wrong, or [ReadAll], which bounds a root file whose
// signature is checked elsewhere. CVMFS-FORMAT 6.3 to 6.5.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// The kinds of failure. Every error of this package is one of them, or wraps
// the cause of a context that ended.
var (
	// ErrNotFound reports a file that every server says it does not have.
	ErrNotFound = errors.New("no such file on the server")
	// ErrCorrupt reports bytes that are not what their name promises, from
	// every server and past every proxy's cache.
	ErrCorrupt = errors.New("corrupt on every server")
	// ErrUnavailable reports that no server gave a usable answer.
	ErrUnavailable = errors.New("server unavailable")
	// ErrTimeout reports a server or proxy that did not answer in time or
	// sent too slowly. It is an ErrUnavailable, too.
	ErrTimeout = fmt.Errorf("%w: timed out", ErrUnavailable)
	// ErrNotModified answers a request whose ETag is still current.
	ErrNotModified = errors.New("not modified")
	// ErrTooLarge reports a root file beyond its bound.
	ErrTooLarge = errors.New("larger than allowed")
)

// Fetcher gets one file of a repository.
type Fetcher interface {
	// Fetch opens path, relative to the repository's base URL. The caller
	// closes the body; a read error of the body is of this package's kinds.
	Fetch(ctx context.Context, path string, o Options) (io.ReadCloser, error)
}

// Options are what a single request may ask for.
type Options struct {
	// NoCache asks every proxy for a fresh copy (CVMFS-FORMAT 6.3).
	NoCache bool
	// MaxAge, if not zero, is the oldest copy a proxy may answer with.
	MaxAge time.Duration
	// ETag, if not empty, makes the request conditional: ErrNotModified if
	// the file still has that tag.
	ETag string
	// Shard selects the proxy within a group, so that one object is always
	// asked of the same one and held there once.
	Shard uint64
	// Skip passes over that many servers, in the order they would be tried:
	// those that already gave a corrupt copy.
	Skip int
	// Offset and Length, if Length is not zero, ask for a piece of the file,
	// in bytes: chunks of external files.
	Offset, Length int64
}

// Alternator is a Fetcher with several sources of the same files.
type Alternator interface {
	// Alternatives is the number of sources that Options.Skip chooses from.
	Alternatives() int
}

func alternatives(f Fetcher) int {
	if a, ok := f.(Alternator); ok {
		return a.Alternatives()
	}
	return 1
}

// ETag returns the tag a server gave the body of a [Fetcher.Fetch], or "".
func ETag(body io.ReadCloser) string {
	if t, ok := body.(interface{ ETag() string }); ok {
		return t.ETag()
	}
	return ""
}

// Blame says who is held responsible for a failure and is passed over next.
type Blame uint8

// The parties of a request.
const (
	BlameNobody Blame = iota // the request itself, or the caller who gave up
	BlameServer
	BlameProxy
)

// Error is one request that failed. Its text leaves out the path, which
// callers that know it as a noun put in front.
type Error struct {
	Kind      error // one of the sentinels above
	Server    string
	Proxy     string // empty when none was used
	Status    int    // of HTTP; 0 if there was no answer
	Blame     Blame
	Temporary bool // the same request may well succeed in a moment
	Cause     error
}

func (e *Error) Error() string {
	where := e.Server
	if e.Proxy != "" {
		where += " through proxy " + e.Proxy
	}
	switch {
	case e.Status != 0:
		return fmt.Sprintf("%s: %v (status %d)", where, e.Kind, e.Status)
	case e.Cause != nil:
		return fmt.Sprintf("%s: %v: %v", where, e.Kind, e.Cause)
	}
	return fmt.Sprintf("%s: %v", where, e.Kind)
}

// Unwrap gives errors.Is the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}

// blamed reports whether err is the failure of a request that b is held
// responsible for.
func blamed(err error, b Blame) bool {
	var e *Error
	return errors.As(err, &e) && e.Blame == b
}
