package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/rootstock-cf/rootstock/store"
)

const (
	// What goes up in one request; larger ones in parts, which S3 keeps apart
	// until the last has come. In bytes.
	onePut = 64 << 20

	// swapMark is user metadata that tells our own swap from another's which
	// wrote the same bytes.
	swapMark = "Rootstock-Swap"
)

// headers are what the web is to see of a file (CVMFS-FORMAT 5.10, 8.2).
func (s *Store) headers(name string) minio.PutObjectOptions {
	o := minio.PutObjectOptions{PartSize: onePut, UserMetadata: map[string]string{}}
	switch {
	case store.IsObject(name):
		o.ContentType, o.CacheControl = "application/octet-stream", "max-age=259200"
	case strings.HasSuffix(name, ".json"):
		o.ContentType, o.CacheControl = "application/json", "max-age=61"
	default:
		o.ContentType, o.CacheControl = "application/x-cvmfs", "max-age=61"
	}
	if s.o.ACL != "" {
		o.UserMetadata["x-amz-acl"] = s.o.ACL
	}
	return o
}

// upload sends data with what lets the server know that it got what was sent: a
// signature of all of it over plain HTTP, its MD5 otherwise. The library's own
// way over plain HTTP signs every 64 KiB: that takes a quarter more of our
// processor time, and servers have been seen to store its marks as the object's
// Content-Encoding.
func (s *Store) upload(ctx context.Context, name string, data []byte, o minio.PutObjectOptions) (etag string, err error) {
	size := int64(len(data))
	if s.secure || s.o.SignatureV2 || size > onePut {
		o.SendContentMd5 = true
		info, err := s.client.Client.PutObject(ctx, s.o.Bucket, s.key(name), bytes.NewReader(data), size, o)
		return info.ETag, err
	}
	sum := sha256.Sum256(data)
	o.DisableContentSha256 = true // in 64 KiB
	info, err := s.client.PutObject(ctx, s.o.Bucket, s.key(name), bytes.NewReader(data), size, "", hex.EncodeToString(sum[:]), o)
	return info.ETag, err
}

// Put stores data under name. An object that is there already costs the server
// a look and is left as it is, unless its size shows that it cannot be that
// object: then it is damage, and replaced.
func (s *Store) Put(ctx context.Context, name string, data []byte) error {
	leave, err := s.enter(ctx, "put", name)
	if err != nil {
		return err
	}
	defer leave()
	if err := s.lock.lostBy(); err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	o := s.headers(name)
	if !store.IsObject(name) {
		if _, err := s.upload(ctx, name, data, o); err != nil {
			return fmt.Errorf("put %s: %w", name, s.explain(err))
		}
		return nil
	}
	if err := s.putObject(ctx, name, data, o); err != nil {
		return fmt.Errorf("put %s: %w", name, s.explain(err))
	}
	s.stored(name, int64(len(data)))
	return nil
}

func (s *Store) putObject(ctx context.Context, name string, data []byte, o minio.PutObjectOptions) error {
	first := o
	first.SetMatchETagExcept("*")
	for try := 0; ; try++ {
		_, err := s.upload(ctx, name, data, first)
		refused, again := refusedCondition(err)
		if !refused {
			return err
		}
		if again && try < s.o.Retries {
			continue // somebody is putting the same
		}
		info, err := s.client.StatObject(ctx, s.o.Bucket, s.key(name), minio.StatObjectOptions{})
		if err == nil && info.Size == int64(len(data)) {
			return nil
		}
		_, err = s.upload(ctx, name, data, s.headers(name))
		return err
	}
}

// Swap replaces name by next if it still holds old. The server compares: the
// put carries the ETag of what was compared here.
func (s *Store) Swap(ctx context.Context, name string, old, next []byte) error {
	leave, err := s.enter(ctx, "swap", name)
	if err != nil {
		return err
	}
	leave() // get takes a turn of its own
	if err := s.lock.lostBy(); err != nil {
		return fmt.Errorf("swap %s: %w", name, err)
	}
	o := s.headers(name)
	mark := rand.Text()
	o.UserMetadata[swapMark] = mark
	for try := 0; ; try++ {
		etag, err := s.compare(ctx, name, old)
		if err != nil {
			return fmt.Errorf("swap %s: %w", name, err)
		}
		if etag == "" {
			o.SetMatchETagExcept("*")
		} else {
			o.SetMatchETag(etag)
		}
		_, err = s.upload(ctx, name, next, o)
		refused, again := refusedCondition(err)
		if !refused {
			if err != nil {
				return fmt.Errorf("swap %s: %w", name, s.explain(err))
			}
			return nil
		}
		// A put whose answer was lost is sent again, and refused the second
		// time because of the first.
		info, err := s.stat(ctx, name)
		if err == nil && info.UserMetadata[swapMark] == mark {
			return nil
		}
		if !again || try >= s.o.Retries {
			return s.conflict(name)
		}
	}
}

// compare returns the ETag of what name holds, which must be old; "" if it
// must not be there, and is not.
func (s *Store) compare(ctx context.Context, name string, old []byte) (etag string, err error) {
	r, info, err := s.get(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		if old == nil {
			return "", nil
		}
		return "", s.conflict(name)
	}
	if err != nil {
		return "", err
	}
	defer r.Close()
	if old == nil {
		return "", s.conflict(name)
	}
	got, err := io.ReadAll(io.LimitReader(r, int64(len(old))+1))
	if err != nil {
		return "", err
	}
	if !bytes.Equal(got, old) {
		return "", s.conflict(name)
	}
	return info.ETag, nil
}

func (s *Store) conflict(name string) error {
	return fmt.Errorf("%s/%s: %w: it is not what it was when this began; begin again", s.spec, name, store.ErrConflict)
}
