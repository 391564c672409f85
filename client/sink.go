package client

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// memorySink is a fetch.Sink for what is small.
type memorySink struct{ bytes.Buffer }

func (m *memorySink) Reset() error {
	m.Buffer.Reset()
	return nil
}

// fileSink is a fetch.Sink for databases, which SQLite wants as files.
type fileSink struct{ *os.File }

func newFileSink(path string) (fileSink, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) // #nosec G304 -- our own directory
	if err != nil {
		return fileSink{}, fmt.Errorf("temporary file: %w", err)
	}
	return fileSink{f}, nil
}

func (f fileSink) Reset() error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return f.Truncate(0)
}
