// Package control is how a cell's programs talk to its daemon, rootstock-cell:
// over a unix socket, one call per connection, one line of JSON each way.
//
//	→ {"call":"lower","timeout_ms":120000,"params":{"ref":"cvmfs://…","handle":"…"}}
//	← {"result":{"tree":"…","lower":["/…"],…}}
//	← {"error":{"kind":"notfound","message":"rootfs jammy has no version 7"}}
//
// A request with "progress":true may be answered by lines of the form
// {"progress":…} before the one that ends the call. Besides the calls that this
// package knows, a daemon offers its own as [Call]s.
//
// A request is at most [MaxRequest] bytes, an answer at most [MaxAnswer]. Both
// ends look at the other's user id and go on only with root or their own.
// A client that closes the connection cancels its call.
//
// There is no HTTP in it: the image plugin is a process per call, and its
// start-up is part of every container's.
package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rootstock-cf/rootstock/reference"
	"github.com/rootstock-cf/rootstock/rootfsprovider/overlay"
)

// Bounds of a line in bytes, newline included.
const (
	MaxRequest = 64 << 10
	MaxAnswer  = 1 << 20
)

// MaxHandle is the most bytes a container's handle may have.
const MaxHandle = 200

// DefaultSocket is where the daemon listens unless configured otherwise.
const DefaultSocket = "/run/rootstock/cell.sock"

// The kinds of failure that cross the socket. A handler's error is sent as the
// kind it wraps, as unavailable if it wraps a context's error, otherwise as
// internal; the client's error wraps the same sentinel.
var (
	ErrNotFound    = errors.New("not found")
	ErrUnavailable = errors.New("unavailable")
	ErrInvalid     = errors.New("invalid request")
	ErrDenied      = errors.New("permission denied")
	ErrInternal    = errors.New("internal error")
)

// Lowers is the part of the daemon that makes trees ready for containers. Its
// methods are called concurrently.
type Lowers interface {
	// Lower makes the tree that r.Ref names at this moment ready as an
	// overlay's lower and keeps it pinned for r.Handle until Release. Asked
	// again for the same handle, it replaces the pin. A failed call leaves
	// no pin.
	Lower(ctx context.Context, r LowerRequest) (Lower, error)
	// Release drops the handle's pin. A handle without one is no error.
	Release(ctx context.Context, handle string) error
}

// Reporter is the part of the daemon that tells about itself. Its methods are
// called concurrently.
type Reporter interface {
	// Status returns what encodes as the JSON document of rootstock-cell
	// status.
	Status(ctx context.Context) (any, error)
	// Containers returns one element per pinned handle.
	Containers(ctx context.Context) ([]Container, error)
}

// Asker is the part of the daemon that asks registries. It is called
// concurrently.
type Asker interface {
	// MayPull returns nil if the registry lets the credentials pull the
	// digest, [ErrDenied] if it does not, and [ErrUnavailable] if it cannot
	// be asked.
	MayPull(ctx context.Context, r PullRequest) error
}

// PullRequest asks whether an image may be pulled.
type PullRequest struct {
	Image     string `json:"image"` // registry/repository
	Digest    string `json:"digest"`
	Username  string `json:"username,omitempty"`
	Password  string `json:"password,omitempty"`
	PlainHTTP bool   `json:"plain_http,omitempty"` // the registry has no TLS
	CA        string `json:"ca,omitempty"`         // PEM certificates to trust instead of the system's
}

// LowerRequest asks for a tree on behalf of a container.
type LowerRequest struct {
	Ref    reference.Reference `json:"ref"`
	Handle string              `json:"handle"`
	// Droplet is the digest of a layer that the container gets on top of the
	// tree, sha256:<64 hex digits>; empty for none. It is only noted.
	Droplet string `json:"droplet,omitempty"`
	// UIDMaps and GIDMaps are the container's user namespace; none for the
	// host's.
	UIDMaps []overlay.IDRange `json:"uid_maps,omitempty"`
	GIDMaps []overlay.IDRange `json:"gid_maps,omitempty"`
}

// Lower is a tree ready to be an overlay's lower.
type Lower struct {
	Tree string `json:"tree"` // the tree's id, 64 hex digits

	// What the reference was resolved to. They are empty for a raw path.
	Kind    reference.Kind `json:"kind,omitempty"`
	Name    string         `json:"name,omitempty"`
	Version string         `json:"version,omitempty"`

	// Source is the digest of what was published; of an image, its
	// manifest's. Empty where the repository does not say.
	Source string `json:"source,omitempty"`

	// Lower are the overlay's lower layers, topmost first, Data its
	// data-only layers below them (kernel 6.5 and later). Paths are absolute
	// and stay mounted until Release.
	Lower []string `json:"lower"`
	Data  []string `json:"data,omitempty"`
	// Mapped are the lower layers once more, but with owners on the host as
	// the mapping of the request has them. It is empty where the kernel can
	// map the ids of Lower by itself.
	Mapped []string `json:"mapped,omitempty"`
	// Options are further overlay mount options, key=value or a bare key,
	// such as metacopy=on.
	Options []string `json:"options,omitempty"`

	Env     []string `json:"env,omitempty"` // KEY=value from the image's configuration
	Bytes   int64    `json:"bytes"`         // sum of the tree's file sizes
	Entries int64    `json:"entries"`       // names in the tree
}

// Container is a handle with a pinned tree.
type Container struct {
	Handle  string              `json:"handle"`
	Ref     reference.Reference `json:"ref"` // as asked for
	Tree    string              `json:"tree"`
	Version string              `json:"version,omitempty"` // as resolved
	Since   time.Time           `json:"since"`
}

// CheckHandle reports, as [ErrInvalid], a handle that may not name a
// container: it becomes a file name, so it is printable ASCII without a slash,
// does not begin with a dot and has at most [MaxHandle] bytes.
func CheckHandle(handle string) error {
	switch {
	case handle == "":
		return fmt.Errorf("%w: empty handle", ErrInvalid)
	case len(handle) > MaxHandle:
		return fmt.Errorf("%w: handle longer than %d bytes", ErrInvalid, MaxHandle)
	case handle[0] == '.':
		return fmt.Errorf("%w: handle %q begins with a dot", ErrInvalid, handle)
	}
	for i := range len(handle) {
		if c := handle[i]; c <= ' ' || c > '~' || c == '/' {
			return fmt.Errorf("%w: handle %q: %q is not allowed there", ErrInvalid, handle, c)
		}
	}
	return nil
}
