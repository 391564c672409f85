package source

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// run decodes all of from into s and proves it.
func (r *reading) run(ctx context.Context, from io.Reader, s *stream) (got, error) {
	in := &tally{in: r.progress.of(from), hash: sha256.New(), limit: r.want.size}
	buffered := bufio.NewReaderSize(in, bufBytes)
	dec, form, err := decompress(buffered, r.want.allowXZ)
	if err != nil {
		return got{}, r.explain(in, buffered, err)
	}
	defer dec.Close() //nolint:errcheck // says nothing that reading did not say
	if form == plain {
		in.hash = nil // the uncompressed hash is the compressed one
	}
	diff := sha256.New()
	for total, made := int64(0), 0; ; {
		var b []byte
		if made <= readAhead {
			b = make([]byte, chunkBytes)
			made++
		} else {
			select {
			case b = <-s.free:
			case <-ctx.Done():
				return got{}, ctx.Err()
			}
		}
		n, err := fill(dec, b)
		total += int64(n)
		diff.Write(b[:n]) //nolint:errcheck // a hash.Hash never fails
		if over := r.charge(total, in.n); over != nil {
			return got{}, over
		}
		if n > 0 {
			select {
			case s.full <- b[:n]:
			case <-ctx.Done():
				return got{}, ctx.Err()
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if in.hash == nil {
				in.hash = diff
			}
			return got{}, r.explain(in, buffered, fmt.Errorf("%w %s: %w", ErrFormat, form, err))
		}
	}
	if n, _ := io.Copy(io.Discard, buffered); in.err != nil {
		return got{}, in.err
	} else if n > 0 {
		return got{}, r.explain(in, buffered, fmt.Errorf("%w %s: %d bytes follow its end", ErrFormat, form, n))
	}
	seen := got{diffID: sum(diff)}
	if seen.digest = seen.diffID; in.hash != nil {
		seen.digest = sum(in.hash)
	}
	if err := r.want.blob(seen.digest, in.n); err != nil {
		return got{}, err
	}
	if r.want.diffID != "" && seen.diffID != r.want.diffID {
		return got{}, fmt.Errorf("%w: its uncompressed tar hashes to %s, the config says %s", ErrDigest, seen.diffID, r.want.diffID)
	}
	return seen, nil
}

// fill reads until b is full. Unlike io.ReadFull it leaves the error as the
// decoder gave it, so that an end within b stays apart from a truncated input.
func fill(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	return n, err
}

// tally hashes and counts compressed bytes as the decoder takes them, not many
// more than limit, and keeps an error of the input apart from the decoder's.
type tally struct {
	in    io.Reader
	hash  hash.Hash // nil where somebody else hashes the same bytes
	n     int64
	limit int64 // -1 for none
	err   error
}

func (t *tally) Read(p []byte) (int, error) {
	if t.limit >= 0 && t.n > t.limit {
		t.err = fmt.Errorf("%w: longer than the %d bytes announced", ErrDigest, t.limit)
	}
	if t.err != nil {
		return 0, t.err
	}
	n, err := t.in.Read(p)
	t.n += int64(n)
	if t.hash != nil {
		t.hash.Write(p[:n]) //nolint:errcheck // a hash.Hash never fails
	}
	if err != nil && !errors.Is(err, io.EOF) {
		t.err = err
	}
	return n, err
}

// blob proves the compressed bytes.
func (w *want) blob(digest string, size int64) error {
	if w.size >= 0 && size != w.size {
		return fmt.Errorf("%w: %d bytes where %d were announced; fetch or copy the source again", ErrDigest, size, w.size)
	}
	if w.digest != "" && digest != w.digest {
		return fmt.Errorf("%w: its bytes hash to %s; fetch or copy the source again", ErrDigest, digest)
	}
	return nil
}

// charge counts what was decoded against both limits.
func (r *reading) charge(total, compressed int64) error {
	if fresh := total - r.counted.Load(); fresh > 0 {
		r.counted.Add(fresh)
		r.budget.used.Add(fresh)
	}
	if r.budget.used.Load() > r.budget.max {
		return fmt.Errorf("%w: more than %d bytes uncompressed in all layers; raise the limit if that is what it should be",
			ErrTooLarge, r.budget.max)
	}
	if total > ratioFloor && total/r.maxRatio > compressed {
		return fmt.Errorf("%w: %d bytes decompress to over %d, more than %d to 1, like a decompression bomb; raise the ratio limit if it is none",
			ErrTooLarge, compressed, total, r.maxRatio)
	}
	return nil
}

// explain finds the cause behind a decoder's complaint: an input that failed,
// or bytes that are not those promised, come before what they did to the
// decoder.
func (r *reading) explain(in *tally, rest io.Reader, err error) error {
	if in.err == nil && in.hash != nil && r.want.digest != "" {
		io.Copy(io.Discard, rest) //nolint:errcheck // an error is kept in in.err
		if in.err == nil {
			if bad := r.want.blob(sum(in.hash), in.n); bad != nil {
				return bad
			}
		}
	}
	if in.err != nil {
		return in.err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %w", ErrTruncated, err)
	}
	return err
}
