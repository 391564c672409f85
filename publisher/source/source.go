// Package source opens what an operator names for publishing (a root file
// system tarball, an image in a registry, an OCI layout, an archive of either,
// a buildpack's zip, a directory) and yields its layers as verified,
// uncompressed tar streams.
//
// What flows through: compressed bytes come in from a file or a registry, are
// hashed, decompressed and hashed again in a goroutine of their own, and leave
// as a tar stream that ends with io.EOF only if every digest anybody promised
// was kept. Nothing is extracted and no name inside a tar is looked at: that is
// package flatten's part.
package source

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/rootstock-cf/rootstock/publisher/seen"
)

// The kinds of error a caller may want to tell apart. The texts that wrap them
// name the image, registry or layer, and what to do.
var (
	// ErrRefused reports a registry that wants other credentials.
	ErrRefused = errors.New("access refused")
	// ErrNotFound reports an image, layer or file that is not there.
	ErrNotFound = errors.New("not found")
	// ErrDigest reports bytes that are not what a digest or size promised.
	ErrDigest = errors.New("digest mismatch")
	// ErrTruncated reports a stream that ended before its end.
	ErrTruncated = errors.New("ends early")
	// ErrTooLarge reports a stream beyond Options.MaxBytes or
	// Options.MaxRatio.
	ErrTooLarge = errors.New("too large")
	// ErrUnsupported reports a well-formed source that cannot be published.
	ErrUnsupported = errors.New("unsupported")
	// ErrFormat reports bytes that are not in the format they claim.
	ErrFormat = errors.New("malformed")
	// ErrPlainHTTP reports a registry that could be reached only without TLS
	// and is not listed in Options.PlainHTTP.
	ErrPlainHTTP = errors.New("plain HTTP not allowed")
)

// The kinds of [Source].
const (
	KindRootfs    = "rootfs"
	KindImage     = "image"
	KindBuildpack = "buildpack"
	KindDir       = "dir"
)

// Layer is one layer of a source, lowest first.
type Layer interface {
	// DiffID is sha256:<hex> of the uncompressed tar, or "" while unknown: a
	// rootfs file states none, so it is known once the layer has been read.
	DiffID() string
	// Open begins a stream of the uncompressed tar; the caller closes it,
	// also after an error. The stream is verified only when Read has
	// returned io.EOF: a wrong digest or diff id arrives in io.EOF's place,
	// and Close repeats it. Closing early verifies nothing and is no error.
	// A layer may be opened any number of times; ctx lasts for the stream.
	Open(ctx context.Context) (io.ReadCloser, error)
}

// Source is something to publish. Close it when its layers are done with.
type Source struct {
	Kind string // one of the above
	// Spelled is how the source is named to others than who opened it: an
	// image as it was spelled, of a file or directory the last component.
	Spelled string
	// Digest is sha256:<hex>. Of an image it is the manifest's (the config's
	// for a docker-archive, which has no manifest). Of a rootfs or buildpack
	// it is the file's as given, of a directory that of the tar it is read
	// as; of a rootfs or directory it is empty until its layer has been read
	// to io.EOF for the first time.
	Digest string
	// Name and Version are what the source says of itself: a buildpack in
	// manifest.yml and VERSION, a rootfs once [StackVersion] has looked.
	// What it does not say is empty. Both are text of the source's, unchecked.
	Name, Version string
	// Notes is what of the source its layers leave out or make up.
	Notes []string
	// Receipt, if not nil, is a rootfs's list of packages, which its makers
	// hand out beside it.
	Receipt []byte

	ConfigDigest string // of an image
	Config       []byte // raw OCI or docker config JSON of an image
	Manifest     []byte // raw; nil for a docker-archive

	// Registry, Repository and Tag are the normalised name, as in
	// docker.io, library/alpine, 3.19. Fields that the operator's spelling
	// and the source leave open are empty.
	Registry   string
	Repository string
	Tag        string

	Layers []Layer // lowest first

	closers []func() error
}

// Close removes temporary files and closes what Open functions opened. It must
// not be called while a layer's stream is open.
func (s *Source) Close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// Options says how to open a source. The zero value is usable.
type Options struct {
	// TempDir holds spooled blobs until Close; "" is the system's.
	TempDir string
	// MaxBytes bounds the uncompressed bytes of all layers together;
	// 0 is 256 GiB.
	MaxBytes int64
	// MaxRatio bounds uncompressed : compressed bytes of a layer once it is
	// over 256 MiB; 0 is 200.
	MaxRatio int64

	// Seen remembers files and small blobs from earlier runs; nil is no such
	// memory. Of a file whose size, inode and times are as they were it
	// knows the digests without reading it.
	Seen *seen.Dir

	// Platform is OS/ARCH[/VARIANT]; "" is linux/amd64.
	Platform string
	// Username and Password go to the image's registry; without a Username
	// docker's and podman's own configuration is asked.
	Username, Password string
	// PlainHTTP lists the hosts (host or host:port, as in the image's name)
	// that may be spoken to without TLS. Nobody else ever is.
	PlainHTTP []string
	// Mirrors are asked before the registry they mirror, in this order. What
	// a digest names is verified whoever brings it; which digest a tag has
	// is believed of the first that answers.
	Mirrors []Mirror
	// Retries is how often a request that failed in transport or with 5xx or
	// 429 is made again, and a broken download resumed; 0 is 3, below 0 never.
	Retries int
	// RetryDelay is the wait before the first retry, doubled for each
	// further one; 0 is one second.
	RetryDelay time.Duration
	// StallTimeout ends a download that has brought no byte for so long;
	// 0 is one minute.
	StallTimeout time.Duration
}

const (
	defaultMaxBytes = 256 << 30
	defaultMaxRatio = 200
	ratioFloor      = 256 << 20 // bytes below which no ratio is suspicious
)

func (o Options) withDefaults() Options {
	if o.TempDir == "" {
		o.TempDir = os.TempDir()
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.MaxRatio <= 0 {
		o.MaxRatio = defaultMaxRatio
	}
	if o.Platform == "" {
		o.Platform = "linux/amd64"
	}
	switch {
	case o.Retries == 0:
		o.Retries = 3
	case o.Retries < 0:
		o.Retries = 0
	}
	if o.RetryDelay <= 0 {
		o.RetryDelay = time.Second
	}
	if o.StallTimeout <= 0 {
		o.StallTimeout = time.Minute
	}
	return o
}
