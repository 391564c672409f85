package source_test

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rootstock-cf/rootstock/publisher/source"
)

// limiter refuses requests until a time that it tells, like a registry that has
// enough: whoever asks too early is refused again.
type limiter struct {
	code int
	// header tells of the time, given what is now.
	header func(now, until time.Time) string
	during time.Duration // for which it refuses
	ahead  time.Duration // by which its clock is
	full   bool          // it refuses until the next full second

	mu    sync.Mutex
	until time.Time
	early atomic.Int32
}

func (l *limiter) serve(w http.ResponseWriter, _ *http.Request) bool {
	l.mu.Lock()
	now := time.Now().Add(l.ahead)
	if l.until.IsZero() {
		l.until = now.Add(l.during)
		if l.full {
			l.until = l.until.Truncate(time.Second).Add(time.Second)
		}
	}
	until := l.until
	l.mu.Unlock()
	if !now.Before(until) {
		return false
	}
	l.early.Add(1)
	w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
	w.Header().Set("Retry-After", l.header(now, until))
	w.WriteHeader(l.code)
	return true
}

func seconds(now, until time.Time) string { return strconv.Itoa(int(until.Sub(now).Seconds() + 1)) }
func date(_, until time.Time) string      { return until.UTC().Format(http.TimeFormat) }

// A registry that says when to come again is asked then, and not before: with a
// single retry, whoever comes too early fails.
func TestRetryAfter(t *testing.T) {
	img, tars := image(t)
	for name, tc := range map[string]struct {
		path    string
		limiter *limiter
	}{
		"429, seconds, manifest":          {"/manifests/", &limiter{code: 429, header: seconds, during: 900 * time.Millisecond}},
		"503, seconds, layer":             {"/blobs/" + lowest(t, img).Digest.String(), &limiter{code: 503, header: seconds, during: 900 * time.Millisecond}},
		"429, date, layer":                {"/blobs/" + lowest(t, img).Digest.String(), &limiter{code: 429, header: date, during: 100 * time.Millisecond, full: true}},
		"503, date of another clock":      {"/manifests/", &limiter{code: 503, header: date, during: 100 * time.Millisecond, full: true, ahead: -24 * time.Hour}},
		"429, first of all, at the login": {"/v2/", &limiter{code: 429, header: seconds, during: 900 * time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			l := tc.limiter
			spec, o := faulty(t, img, func(w http.ResponseWriter, r *http.Request) bool {
				return strings.Contains(r.URL.Path, tc.path) && l.serve(w, r)
			})
			o.Retries, o.StallTimeout = 1, time.Minute
			checkImage(t, spec, o, tars)
			if l.early.Load() != 1 {
				t.Errorf("asked %d times too early", l.early.Load())
			}
		})
	}
}

// Nobody is made to wait for ever, or by nonsense, or once there is nothing to
// be asked any more.
func TestRetryAfterIsBounded(t *testing.T) {
	img, _ := image(t)
	for name, header := range map[string]string{
		"an age":         "2000000000",
		"beyond numbers": "99999999999999999999999",
		"a far date":     "Fri, 31 Dec 2199 23:59:59 GMT",
		"a date gone by": "Sun, 06 Nov 1994 08:49:37 GMT",
		"negative":       "-5",
		"nonsense":       "soon",
		"nothing":        "",
	} {
		t.Run(name, func(t *testing.T) {
			var tries atomic.Int32
			spec, o := faulty(t, img, func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/manifests/") {
					return false
				}
				tries.Add(1)
				w.Header().Set("Retry-After", header)
				w.WriteHeader(http.StatusTooManyRequests)
				return true
			})
			o.Retries, o.StallTimeout = 2, 20*time.Millisecond
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // or it waits for ever
			defer cancel()
			_, err := source.OpenImage(ctx, spec, o)
			if err == nil || !strings.Contains(err.Error(), "after 3 tries") || tries.Load() != 3 {
				t.Errorf("asked %d times, %v", tries.Load(), err)
			}
		})
	}
	t.Run("no retries", func(t *testing.T) {
		spec, o := faulty(t, img, func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		})
		o.Retries, o.StallTimeout = -1, time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := source.OpenImage(ctx, spec, o); err == nil || ctx.Err() != nil {
			t.Errorf("got %v, %v", err, ctx.Err())
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		spec, o := faulty(t, img, func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
			time.AfterFunc(50*time.Millisecond, cancel)
			return true
		})
		o.StallTimeout = time.Hour
		if _, err := source.OpenImage(ctx, spec, o); err == nil || ctx.Err() == nil {
			t.Errorf("got %v", err)
		}
	})
}
