package fetch

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
)

// head is what is of interest in the header of an answer.
type head struct {
	status  int
	length  int64 // of the body; -1 if its end is that of the connection
	chunked bool
	keep    bool // the connection, after the body
	etag    string
	byProxy bool // squid and others say so of errors that are theirs
}

// head reads the header of an answer, of at most *room bytes, and takes its size
// from that. RFC 9112 section 6.3 says what ends the body.
func (c *wireConn) head(room *int) (*head, error) {
	line, err := c.line(room)
	if err != nil {
		return nil, err
	}
	h := &head{length: -1}
	// HTTP/1.1 200 OK
	if len(line) < 12 || string(line[:7]) != "HTTP/1." || line[8] != ' ' || len(line) > 12 && line[12] != ' ' {
		return nil, fmt.Errorf("%w: it begins with %.40q", errMalformed, line)
	}
	old := line[7] == '0'
	h.keep = !old
	for _, d := range line[9:12] {
		if d < '0' || d > '9' {
			return nil, fmt.Errorf("%w: it begins with %.40q", errMalformed, line)
		}
		h.status = 10*h.status + int(d-'0')
	}
	for {
		if line, err = c.line(room); err != nil {
			return nil, err
		}
		if len(line) == 0 {
			break
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || len(name) == 0 || bytes.ContainsAny(name, " \t") {
			return nil, fmt.Errorf("%w: header line %.40q", errMalformed, line)
		}
		if err := h.field(name, bytes.Trim(value, " \t")); err != nil {
			return nil, err
		}
	}
	switch {
	case old && h.chunked:
		return nil, fmt.Errorf("%w: HTTP/1.0 in chunks", errMalformed)
	case h.status < 200 || h.status == http.StatusNoContent || h.status == http.StatusNotModified:
		h.length, h.chunked = 0, false
	case h.chunked:
		// What comes after the last chunk is not read.
		h.length, h.keep = -1, false
	case h.length < 0:
		h.keep = false
	}
	return h, nil
}

func (h *head) field(name, value []byte) error {
	is := func(want string) bool { return len(name) == len(want) && bytes.EqualFold(name, []byte(want)) }
	switch {
	case is("Content-Length"):
		n, err := strconv.ParseUint(string(value), 10, 63)
		if err != nil || h.length >= 0 && h.length != int64(n) { // #nosec G115 -- 63 bits
			return fmt.Errorf("%w: Content-Length %.40q", errMalformed, value)
		}
		h.length = int64(n) // #nosec G115 -- see above
	case is("Transfer-Encoding"):
		if !bytes.EqualFold(value, []byte("chunked")) {
			return fmt.Errorf("%w: Transfer-Encoding %.40q", errMalformed, value)
		}
		h.chunked = true
	case is("Connection"):
		for part := range bytes.SplitSeq(value, []byte(",")) {
			if bytes.EqualFold(bytes.TrimSpace(part), []byte("close")) {
				h.keep = false
			}
		}
	case is("ETag"):
		if plainField(string(value)) {
			h.etag = string(value)
		}
	case is("X-Squid-Error"):
		h.byProxy = true
	case is("Proxy-Status"):
		h.byProxy = h.byProxy || bytes.Contains(value, []byte("error"))
	}
	return nil
}

// line reads a line of a header, without its end.
func (c *wireConn) line(room *int) ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	if *room -= len(line); *room < 0 || err == bufio.ErrBufferFull { //nolint:errorlint // as ReadSlice returns it
		return nil, fmt.Errorf("%w: a header of more than %d bytes", errMalformed, wireHead)
	}
	if err != nil {
		return nil, unexpected(err)
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
}

// wireBody is the body of an answer. Once it was read to its end, the connection
// is there for the next request.
type wireBody struct {
	w      *wire
	c      *wireConn
	stop   func() bool // the connection's interruption
	left   int64       // -1 if not known
	chunks io.Reader   // decodes them; nil if there are none
	keep   bool
	done   bool
}

func newWireBody(w *wire, c *wireConn, stop func() bool, h *head) *wireBody {
	b := &wireBody{w: w, c: c, stop: stop, left: h.length, keep: h.keep}
	if h.chunked {
		b.chunks = httputil.NewChunkedReader(c.in)
	}
	if b.left == 0 {
		b.end()
	}
	return b
}

func (b *wireBody) Read(p []byte) (n int, err error) {
	switch {
	case b.done:
		return 0, io.EOF
	case b.chunks != nil:
		n, err = b.chunks.Read(p)
	case b.left < 0:
		n, err = b.c.in.Read(p)
	default:
		n, err = b.c.in.Read(p[:min(int64(len(p)), b.left)])
		err = unexpected(err)
		if b.left -= int64(n); b.left == 0 {
			err = io.EOF
		}
	}
	if err == io.EOF { //nolint:errorlint // as readers return it
		b.end()
	}
	return n, err
}

// end gives the connection back. One that is being interrupted must not be used
// again: the interruption would meet the next request.
func (b *wireBody) end() {
	b.done = true
	if b.stop() && b.keep && b.c.in.Buffered() == 0 {
		b.w.give(b.c)
		return
	}
	b.c.Close() //nolint:errcheck // everything wanted has been read
}

// Close closes the connection unless it was given back.
func (b *wireBody) Close() error {
	if b.done {
		return nil
	}
	b.done = true
	b.stop()
	return b.c.Close()
}
