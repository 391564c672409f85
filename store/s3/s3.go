// Package s3 is the store in a bucket of an S3 server, laid out as stock
// CernVM-FS lays out its S3 upstream (CVMFS-FORMAT 5.10): each file of the
// repository is one object, KEY = PREFIX/name, with the headers that the web
// and proxies are to see. What a bucket's own web server shows below PREFIX is
// therefore a stratum 0.
//
// Objects go up as they come, many at a time. S3 has no rename and no flock;
// what a directory does with those, a bucket does with conditional puts
// (If-None-Match, If-Match): the swap of the manifest, and the lock, which is
// an object that its holder renews (lock.go). A server that ignores the
// conditions is found out when the lock is taken, and refused.
//
// Whether an object is there already is asked of listings, one of all where that
// is enough, else one for each data/xx, rather than object by object (names.go). Sync asks the server again
// for everything put since the last one: only what it then lists is taken for
// stored (sync.go).
//
// Beside the format's files the bucket holds PREFIX/.rootstock.lock.
package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/store"
)

var (
	_ store.Store      = (*Store)(nil)
	_ store.Lister     = (*Store)(nil)
	_ store.AgedLister = (*Store)(nil)
	_ store.Deleter    = (*Store)(nil)
)

var (
	// ErrCredentials reports a server that does not let us in.
	ErrCredentials = errors.New("the S3 server refuses these credentials")
	// ErrNoBucket reports a bucket that is not there, or no more.
	ErrNoBucket = errors.New("the bucket does not exist")
	// ErrNotStored reports what the server said it stored and does not have.
	ErrNotStored = errors.New("the S3 server lost what it said it had stored")
	// ErrUnconditional reports a server that ignores the conditions of a
	// put, so that nothing protects two publishers from each other.
	ErrUnconditional = errors.New("the S3 server ignores If-None-Match on puts")
)

// Options say where a repository lies and how to talk to the server. Bucket is
// needed.
type Options struct {
	Bucket, Prefix string
	// Endpoint is the server's URL; "" is Amazon's for Region.
	Endpoint string
	Region   string // "" is us-east-1, or what the server says
	// AccessKey and SecretKey sign requests; if both are empty, the usual
	// places are looked into: AWS_* variables, ~/.aws, the machine's role.
	AccessKey, SecretKey string
	DNSBuckets           bool // bucket.host instead of host/bucket
	SignatureV2          bool
	ACL                  string   // canned ACL of each object; "" sends none
	Proxy                *url.URL // nil is what the environment says

	Concurrency int           // requests at a time; 64
	Retries     int           // of a request that failed for the moment; 5
	Timeout     time.Duration // for the connection and for each pause of the server; 30 s
	// Lease is how long a lock holds that its holder does not renew; 2 min.
	Lease time.Duration
	Log   *slog.Logger // nil is silent
}

// Store is a repository in a bucket. Its methods may be called concurrently.
type Store struct {
	o      Options
	spec   string // s3://bucket/prefix, for messages
	client minio.Core
	secure bool // over TLS
	clock  *serverClock
	turns  chan struct{} // requests under way

	names names
	lock  held

	// unverified are the objects put since the last Sync. Under mu.
	mu         sync.Mutex
	unverified map[key]int64
}

// Open prepares to work on the repository at o. Nothing is sent yet.
func Open(o Options) (*Store, error) {
	o = o.withDefaults()
	endpoint, err := url.Parse(o.Endpoint)
	if err != nil || endpoint.Host == "" || endpoint.Scheme != "http" && endpoint.Scheme != "https" ||
		strings.Trim(endpoint.Path, "/") != "" {
		return nil, fmt.Errorf("S3 endpoint %q: want http://HOST[:PORT] or https://HOST[:PORT]", o.Endpoint)
	}
	if o.Prefix != "" {
		if err := store.CheckName(o.Prefix); err != nil {
			return nil, fmt.Errorf("prefix in the bucket: %w", err)
		}
	}
	s := &Store{
		o: o, spec: "s3://" + strings.TrimSuffix(o.Bucket+"/"+o.Prefix, "/"), clock: &serverClock{},
		turns: make(chan struct{}, o.Concurrency), unverified: map[key]int64{}, secure: endpoint.Scheme == "https",
	}
	lookup := minio.BucketLookupPath
	if o.DNSBuckets {
		lookup = minio.BucketLookupDNS
	}
	client, err := minio.New(endpoint.Host, &minio.Options{
		Creds: o.credentials(), Secure: s.secure, Region: o.Region, BucketLookup: lookup,
		Transport: newTransport(o, s.clock), MaxRetries: o.Retries + 1,
	})
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", s.spec, err)
	}
	client.SetAppInfo("rootstock", "")
	s.client = minio.Core{Client: client}
	return s, nil
}

func (o Options) withDefaults() Options {
	if o.Endpoint == "" {
		o.Endpoint = "https://s3.amazonaws.com"
		if o.Region != "" {
			o.Endpoint = "https://s3." + o.Region + ".amazonaws.com"
		}
	}
	if o.Concurrency <= 0 {
		o.Concurrency = 64
	}
	if o.Retries <= 0 {
		o.Retries = 5
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Lease <= 0 {
		o.Lease = 2 * time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Prefix = strings.Trim(o.Prefix, "/")
	return o
}

func (o Options) credentials() *credentials.Credentials {
	if o.AccessKey == "" && o.SecretKey == "" {
		return credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{},
		})
	}
	if o.SignatureV2 {
		return credentials.NewStaticV2(o.AccessKey, o.SecretKey, "")
	}
	return credentials.NewStaticV4(o.AccessKey, o.SecretKey, "")
}

// Create is Open for a place that is to get a new repository. It refuses with
// fs.ErrExist one that holds a repository, or anything else.
func Create(ctx context.Context, o Options) (*Store, error) {
	s, err := Open(o)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for e := range s.client.ListObjectsIter(ctx, s.o.Bucket, minio.ListObjectsOptions{Prefix: s.key("")}) {
		if e.Err != nil {
			return nil, fmt.Errorf("create repository: %w", s.explain(e.Err))
		}
		switch name := strings.TrimPrefix(e.Key, s.key("")); {
		case name == manifest.FileName:
			return nil, fmt.Errorf("create repository: %s holds a repository already: %w; publish to it, or name another prefix", s.spec, fs.ErrExist)
		case name != "data/" && !strings.HasPrefix(name, ".cvmfs") && !strings.HasPrefix(name, ".rootstock"):
			return nil, fmt.Errorf("create repository: %s is not empty, it holds %.100q: %w; name an empty prefix", s.spec, name, fs.ErrExist)
		}
	}
	return s, nil
}

// String returns the store's place as it is given on a command line.
func (s *Store) String() string { return s.spec }

// key is where name lies in the bucket.
func (s *Store) key(name string) string {
	if s.o.Prefix == "" {
		return name
	}
	return s.o.Prefix + "/" + name
}

// enter checks name and waits for a turn, which the caller ends by leave.
func (s *Store) enter(ctx context.Context, op, name string) (leave func(), err error) {
	if err := store.CheckName(name); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	return s.turn(ctx, op+" "+name)
}

func (s *Store) turn(ctx context.Context, what string) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	select {
	case s.turns <- struct{}{}:
		return func() { <-s.turns }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", what, ctx.Err())
	}
}

// body is an open object, which knows its size.
type body struct {
	io.ReadCloser
	s    *Store
	size int64
}

// Size is how many bytes the object has in all.
func (b *body) Size() int64 { return b.size }

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.s.explain(err)
	}
	return n, err
}

// Get opens name for reading; the caller closes it. What it returns has a
// method Size() int64.
func (s *Store) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	r, _, err := s.get(ctx, name)
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (s *Store) get(ctx context.Context, name string) (*body, minio.ObjectInfo, error) {
	leave, err := s.enter(ctx, "get", name)
	if err != nil {
		return nil, minio.ObjectInfo{}, err
	}
	defer leave()
	r, info, _, err := s.client.GetObject(ctx, s.o.Bucket, s.key(name), minio.GetObjectOptions{})
	if err != nil {
		return nil, info, fmt.Errorf("get %s: %w", name, s.explain(err))
	}
	return &body{r, s, info.Size}, info, nil
}

// Has reports whether name is there, and its size. While this Store holds the
// lock, and so nobody else may delete, it answers for objects from listings
// that it keeps.
func (s *Store) Has(ctx context.Context, name string) (int64, bool, error) {
	if err := store.CheckName(name); err != nil {
		return 0, false, fmt.Errorf("look for: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return 0, false, fmt.Errorf("look for %s: %w", name, err)
	}
	if size, ok, known, err := s.names.has(ctx, s, name); known || err != nil {
		return size, ok, err
	}
	info, err := s.stat(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	} else if err != nil {
		return 0, false, err
	}
	return info.Size, true, nil
}

func (s *Store) stat(ctx context.Context, name string) (minio.ObjectInfo, error) {
	leave, err := s.turn(ctx, "look for "+name)
	if err != nil {
		return minio.ObjectInfo{}, err
	}
	defer leave()
	info, err := s.client.StatObject(ctx, s.o.Bucket, s.key(name), minio.StatObjectOptions{})
	if err != nil {
		return info, fmt.Errorf("look for %s: %w", name, s.explain(err))
	}
	return info, nil
}

// Delete removes name; one that is not there is no error.
func (s *Store) Delete(ctx context.Context, name string) error {
	leave, err := s.enter(ctx, "delete", name)
	if err != nil {
		return err
	}
	defer leave()
	if err := s.lock.lostBy(); err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	s.names.forget(name)
	err = s.client.RemoveObject(ctx, s.o.Bucket, s.key(name), minio.RemoveObjectOptions{})
	if err != nil && !errors.Is(s.explain(err), fs.ErrNotExist) {
		return fmt.Errorf("delete %s: %w", name, s.explain(err))
	}
	return nil
}
