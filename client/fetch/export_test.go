package fetch

import (
	"bufio"
	"io"
	"net"
)

// Answer reads an answer as a wire does, from what a server sent.
func Answer(sent io.Reader) (status int, etag string, body []byte, err error) {
	here, there := net.Pipe()
	there.Close() //nolint:errcheck // nothing is sent
	c := &wireConn{Conn: here, in: bufio.NewReaderSize(sent, wireBuffer)}
	a, err := c.answer(&wire{}, func() bool { return false })
	if err != nil {
		return 0, "", nil, err
	}
	body, err = io.ReadAll(a.body)
	return a.status, a.etag, body, err
}
