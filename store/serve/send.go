package serve

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rootstock-cf/rootstock/manifest"
	"github.com/rootstock-cf/rootstock/store"
)

const (
	// rootAge is how long a root file may be cached, in seconds; squid does
	// not cache what may be kept for 60 or less.
	rootAge = "public, max-age=61"
	// objectAge is for objects, whose name is their content.
	objectAge = "public, max-age=31536000, immutable"

	// maxTagged is up to how many bytes a root file's ETag is computed, on
	// each request. Larger ones (a reflog) go without.
	maxTagged = 256 << 10

	// A response must be taken within baseTime plus the time that its size
	// takes at slowest, in bytes per second, so that nobody holds files and
	// connections by reading nothing.
	baseTime = time.Minute
	slowest  = 16 << 10
)

// sizer is what a store that cannot seek in its objects may know of them.
type sizer interface {
	Has(ctx context.Context, name string) (size int64, ok bool, err error)
}

// send answers with body, the content of name.
func (h *handler) send(w http.ResponseWriter, r *http.Request, from store.Getter, name string, body io.Reader) {
	header := w.Header()
	if store.IsObject(name) {
		header["Content-Type"] = octetStream
		header["Cache-Control"] = objectCache
		header["Etag"] = []string{objectTag(name)}
		if sent, err := h.small(w, r, body); err != nil {
			h.fail(w, r, fmt.Errorf("read %s: %w", name, err))
			return
		} else if sent {
			return
		}
	} else {
		header.Set("Content-Type", "application/x-cvmfs")
		if strings.HasSuffix(name, ".json") {
			header.Set("Content-Type", "application/json")
		}
		header.Set("Cache-Control", rootAge)
		tag, whole, err := tagged(body)
		if err != nil {
			h.fail(w, r, fmt.Errorf("read %s: %w", name, err))
			return
		}
		if tag != "" {
			header.Set("Etag", tag)
		}
		body = whole
	}
	if seeker, ok := body.(io.ReadSeeker); ok {
		if size, err := seeker.Seek(0, io.SeekEnd); err == nil {
			allow(w, size)
		}
		// No time: stock servers send no Last-Modified, and a tag is better.
		http.ServeContent(w, r, "", time.Time{}, seeker)
		return
	}
	size := int64(-1)
	if b, ok := body.(interface{ Size() int64 }); ok {
		size = b.Size()
	} else if s, ok := from.(sizer); ok {
		n, ok, err := s.Has(r.Context(), name)
		if err != nil {
			h.fail(w, r, err)
			return
		}
		if ok {
			size = n
		}
	}
	h.stream(w, r, body, size)
}

// What objects carry, made once: most requests are for small ones.
var (
	octetStream = []string{"application/octet-stream"}
	objectCache = []string{objectAge}
	byteRanges  = []string{"bytes"}
)

// smallObject is up to how many bytes an object is read and written in one go,
// which costs fewer system calls than sendfile and what belongs to it.
const smallObject = 32 << 10

var smallBuffers = sync.Pool{New: func() any { return new([smallObject]byte) }}

// small sends an object that is small, whole, to who asked for no more than
// that. sent is false if it is for others to send, and nothing has been read.
func (h *handler) small(w http.ResponseWriter, r *http.Request, body io.Reader) (sent bool, err error) {
	f, ok := body.(*os.File)
	if !ok || r.Method != http.MethodGet || len(r.Header["Range"]) > 0 || len(r.Header["If-None-Match"]) > 0 {
		return false, nil
	}
	for _, k := range []string{"If-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range"} {
		if len(r.Header[k]) > 0 {
			return false, nil
		}
	}
	b, _ := smallBuffers.Get().(*[smallObject]byte)
	defer smallBuffers.Put(b)
	n, err := f.Read(b[:]) // of a regular file, less than all means its end
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err != nil {
		return false, err
	}
	if n == smallObject {
		_, err := f.Seek(0, io.SeekStart)
		return false, err
	}
	header := w.Header()
	header["Accept-Ranges"] = byteRanges
	header["Content-Length"] = []string{strconv.Itoa(n)}
	_, _ = w.Write(b[:n]) //nolint:errcheck // a client that left needs no answer
	return true, nil
}

// objectTag is the object's name, without the slash.
func objectTag(name string) string {
	return `"` + strings.Replace(strings.TrimPrefix(name, "data/"), "/", "", 1) + `"`
}

// tagged returns the ETag of a root file, made of its content, and its content
// from the beginning. For one that is too large the tag is empty.
func tagged(body io.Reader) (tag string, whole io.Reader, err error) {
	b, err := io.ReadAll(io.LimitReader(body, maxTagged+1))
	if err != nil {
		return "", nil, err
	}
	if len(b) <= maxTagged {
		sum := sha256.Sum256(b)
		return `"` + hex.EncodeToString(sum[:16]) + `"`, bytes.NewReader(b), nil
	}
	if _, ok := body.(io.Seeker); ok {
		return "", body, nil // who serves it seeks
	}
	return "", io.MultiReader(bytes.NewReader(b), body), nil
}

// stream sends what cannot seek: whole, or not at all.
func (h *handler) stream(w http.ResponseWriter, r *http.Request, body io.Reader, size int64) {
	header := w.Header()
	header.Set("Accept-Ranges", "none")
	if tag := header.Get("Etag"); tag != "" && noneMatch(r, tag) {
		header.Del("Content-Type")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if size >= 0 {
		header.Set("Content-Length", strconv.FormatInt(size, 10))
	}
	allow(w, max(size, 0))
	if r.Method == http.MethodHead {
		return
	}
	if _, err := io.Copy(w, body); err != nil {
		if r.Context().Err() == nil {
			h.log.Warn("response broke off", "path", r.URL.Path, "error", err)
		}
		// The headers promised all of it: break the connection, so that the
		// client does not take a part for the whole.
		panic(http.ErrAbortHandler)
	}
}

// noneMatch reports whether the client has what tag stands for.
func noneMatch(r *http.Request, tag string) bool {
	for _, line := range r.Header.Values("If-None-Match") {
		if slices.ContainsFunc(strings.Split(line, ","), func(have string) bool {
			have = strings.TrimPrefix(strings.TrimSpace(have), "W/")
			return have == tag || have == "*"
		}) {
			return true
		}
	}
	return false
}

// allow gives a response of size bytes the time it may take.
func allow(w http.ResponseWriter, size int64) {
	limit := baseTime + time.Duration(size/slowest)*time.Second
	// What cannot have a deadline is no network connection, and needs none.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit)) //nolint:errcheck // see above
}

// refuse answers with an error that no cache keeps: the file may be there the
// next moment.
func refuse(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, text, status)
}

// fail answers for a store that failed, so that a client tries another server.
func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	for _, name := range []string{"Etag", "Content-Type"} {
		w.Header().Del(name)
	}
	if r.Context().Err() == nil || !errors.Is(err, context.Canceled) {
		h.log.Error("store failed", "path", r.URL.Path, "error", err)
	}
	refuse(w, http.StatusInternalServerError, "the store failed; the server's log says why")
}

// health says whether every repository has a manifest that can be opened.
func (h *handler) health(w http.ResponseWriter, r *http.Request) {
	var broken []string
	for fqrn, from := range h.repositories {
		body, err := from.Get(r.Context(), manifest.FileName)
		if err == nil {
			err = body.Close()
		}
		if err != nil {
			h.log.Warn("repository is not served", "repository", fqrn, "error", err)
			broken = append(broken, fqrn)
		}
	}
	if len(broken) > 0 {
		slices.Sort(broken)
		refuse(w, http.StatusServiceUnavailable, "no manifest: "+strings.Join(broken, " "))
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "ok\n") //nolint:errcheck // a client that left needs no answer
}
