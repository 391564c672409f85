package s3

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/rootstock-cf/rootstock/store"
)

const (
	lockName = ".rootstock.lock"
	// maxOwner bounds what is kept and shown of a lock's holder, in bytes.
	maxOwner = 512
	maxLock  = 4 << 10
	// A renewal that fails is tried again; this many fit into a lease.
	renewals = 5
)

// lockFile is the lock: an object that its holder writes anew, with a condition,
// several times per lease. Without an id it is free; it is never deleted, since
// not every server can do that with a condition. Its age is told by the
// server's clock alone, Date minus Last-Modified. Whoever finds it older than a
// lease takes it over, again with a condition, so that one of several does.
//
// A holder that was only asleep finds its next renewal refused, and from then
// on writes nothing more; the manifest's swap has a condition of its own.
type lockFile struct {
	Owner string `json:"owner,omitempty"`
	ID    string `json:"id,omitempty"`
	Lease string `json:"lease,omitempty"` // what the holder promises
}

// held is the lock as its holder knows it.
type held struct {
	mu   sync.Mutex
	lost error
}

func (h *held) lostBy() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lost
}

func (h *held) lose(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lost = err
}

// Lock makes the caller the only publisher to this place. It returns
// store.ErrConflict, naming the holder, if there is one that renewed the lock
// within its lease, and ErrUnconditional for a server on which locks are worth
// nothing.
func (s *Store) Lock(ctx context.Context, owner string) (unlock func() error, err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	mine := lockFile{Owner: printable(owner), ID: rand.Text(), Lease: s.o.Lease.String()}
	etag, err := s.acquire(ctx, mine)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := s.prove(ctx, mine); err != nil {
		return nil, fmt.Errorf("lock: %w", errors.Join(err, s.release(etag)))
	}
	s.lock.lose(nil)
	s.names.reset(true)
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	last := make(chan string, 1)
	go func() { last <- s.renew(ctx, mine, etag) }()
	return sync.OnceValue(func() error {
		stop()
		etag := <-last
		s.names.reset(false)
		if err := s.lock.lostBy(); err != nil {
			return fmt.Errorf("unlock: %w", err)
		}
		return s.release(etag)
	}), nil
}

// acquire writes the lock where it is free or forsaken, and returns its ETag.
func (s *Store) acquire(ctx context.Context, mine lockFile) (etag string, err error) {
	for {
		there, info, err := s.readLock(ctx)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		absent := err != nil
		if there.ID == mine.ID {
			return info.ETag, nil // the answer to an earlier put was lost
		}
		if there.ID != "" {
			lease, perr := time.ParseDuration(there.Lease)
			if perr != nil || lease <= 0 || lease > time.Hour {
				lease = s.o.Lease
			}
			age := s.clock.now().Sub(info.LastModified)
			if !s.clock.known.Load() || age <= lease+time.Second { // both times are whole seconds
				return "", fmt.Errorf("%s: %w: %s is publishing (seen %v ago); try again when that has ended; if it died, %v after it was last seen",
					s.spec, store.ErrConflict, printable(there.Owner), max(age, 0).Round(time.Second), lease)
			}
			s.o.Log.Warn("lock taken over: its holder has not renewed it", "store", s.spec, "holder", printable(there.Owner), "age", age.Round(time.Second))
		}
		var o minio.PutObjectOptions
		if absent {
			o.SetMatchETagExcept("*")
		} else {
			o.SetMatchETag(info.ETag)
		}
		etag, err = s.writeLock(ctx, mine, o)
		if refused, _ := refusedCondition(err); !refused {
			if err != nil {
				return "", s.explain(err)
			}
			return etag, nil
		}
	}
}

// prove writes the lock once more, on a condition that does not hold.
func (s *Store) prove(ctx context.Context, mine lockFile) error {
	var o minio.PutObjectOptions
	o.SetMatchETagExcept("*")
	_, err := s.writeLock(ctx, mine, o)
	if refused, _ := refusedCondition(err); refused {
		return nil
	}
	if err != nil {
		return s.explain(err)
	}
	return fmt.Errorf("%w: %s; two publishers could undo each other's work; use a server that has conditional writes", ErrUnconditional, s.o.Endpoint)
}

// renew keeps the lock until ctx ends and returns its last ETag.
func (s *Store) renew(ctx context.Context, mine lockFile, etag string) string {
	tick := time.NewTicker(s.o.Lease / renewals)
	defer tick.Stop()
	renewed := time.Now()
	for {
		select {
		case <-ctx.Done():
			return etag
		case <-tick.C:
		}
		var o minio.PutObjectOptions
		o.SetMatchETag(etag)
		// Not ctx: a put that is cut off leaves its outcome open.
		attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.o.Lease/renewals)
		next, err := s.writeLock(attempt, mine, o)
		if refused, _ := refusedCondition(err); refused {
			there, info, rerr := s.readLock(attempt)
			if rerr == nil && there.ID == mine.ID {
				next, err = info.ETag, nil // ours, its answer was lost
			} else if rerr == nil {
				s.lock.lose(fmt.Errorf("%s: %w: %s has taken over the lock; begin again", s.spec, store.ErrConflict, printable(there.Owner)))
				cancel()
				return etag
			}
		}
		cancel()
		switch {
		case err == nil:
			etag, renewed = next, time.Now()
		case time.Since(renewed) > s.o.Lease-s.o.Lease/renewals:
			s.lock.lose(fmt.Errorf("%s: %w: the lock could not be renewed: %w; begin again", s.spec, store.ErrConflict, s.explain(err)))
			return etag
		}
	}
}

func (s *Store) release(etag string) error {
	ctx, cancel := context.WithTimeout(context.Background(), s.o.Timeout)
	defer cancel()
	var o minio.PutObjectOptions
	o.SetMatchETag(etag)
	_, err := s.writeLock(ctx, lockFile{}, o)
	if refused, _ := refusedCondition(err); refused {
		return nil // it is free already, or somebody else's: not ours to touch
	}
	if err != nil {
		return fmt.Errorf("unlock %s: %w; it frees itself after %v", s.spec, s.explain(err), s.o.Lease)
	}
	return nil
}

func (s *Store) readLock(ctx context.Context) (f lockFile, info minio.ObjectInfo, err error) {
	r, info, _, err := s.client.GetObject(ctx, s.o.Bucket, s.key(lockName), minio.GetObjectOptions{})
	if err != nil {
		return f, info, s.explain(err)
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, maxLock))
	if err != nil {
		return f, info, s.explain(err)
	}
	if json.Unmarshal(text, &f) != nil {
		// Whatever it is, it may mean that somebody works here.
		f = lockFile{Owner: "somebody who left no name", ID: "?"}
	}
	return f, info, nil
}

func (s *Store) writeLock(ctx context.Context, f lockFile, o minio.PutObjectOptions) (etag string, err error) {
	text, err := json.Marshal(f)
	if err != nil {
		return "", err
	}
	o.ContentType, o.CacheControl = "application/json", "no-store"
	return s.upload(ctx, lockName, text, o)
}

// printable makes a text from a bucket or a caller fit for a message.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return -1
		}
		return r
	}, s)
	return strings.ToValidUTF8(s[:min(len(s), maxOwner)], "")
}
