package rootfsprovider

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/rootstock-cf/rootstock/reference"
)

// A record's states. A record that is there under its handle's free lock and
// is not ready belongs to a create that died.
const (
	stateCreating = "creating"
	stateReady    = "ready"
)

// maxRecord bounds a record in bytes.
const maxRecord = 64 << 10

// Record is what the store knows about a container.
type Record struct {
	State   string              `json:"state"`
	Handle  string              `json:"handle"`
	Ref     reference.Reference `json:"ref,omitzero"` // as asked for; zero if only another plugin knows it
	Created time.Time           `json:"created"`

	// Fallback is set where another plugin has the container.
	Fallback bool `json:"fallback,omitempty"`
	// Certificates names the layer of trusted certificates; empty for none.
	Certificates string `json:"certificates,omitempty"`

	// What the daemon resolved the reference to; empty while creating.
	Tree    string `json:"tree,omitempty"`
	Version string `json:"version,omitempty"`

	ImageBytes int64  `json:"image_bytes"`           // size of the tree
	LimitBytes int64  `json:"limit_bytes,omitempty"` // of the write layer, 0 for none
	Quota      string `json:"quota,omitempty"`       // the backend that bounds or counts it, if one does
}

// newRecord writes a record durably: whatever the machine does after that, it
// is there to tell that there is something to clean up and to release.
func newRecord(path string, r Record) error {
	if err := writeRecord(path, r, (*os.File).Sync); err != nil {
		return err
	}
	return syncDir(path)
}

// updateRecord replaces a record. If the machine stops before that has reached
// the disk, the old one is there, or an empty one: the container has not
// survived either, and both are reasons to clean up after it.
func updateRecord(path string, r Record) error {
	return writeRecord(path, r, func(*os.File) error { return nil })
}

func writeRecord(path string, r Record, sync func(*os.File) error) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("record %s: %w", path, err)
	}
	// Its handle's lock makes the name ours alone. A handle cannot begin
	// with a dot, so it is nobody's record.
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	_, err = f.Write(append(text, '\n'))
	err = errors.Join(err, sync(f), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp) //nolint:errcheck // the first error counts
		return fmt.Errorf("record %s: %w", path, err)
	}
	return nil
}

// readRecord returns fs.ErrNotExist where there is none. An empty record is one
// of a create that did not end.
func readRecord(path string) (Record, error) {
	f, err := os.Open(path)
	if err != nil {
		return Record{}, fmt.Errorf("record: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil {
		return Record{}, fmt.Errorf("record %s: %w", path, err)
	}
	if len(text) == 0 {
		return Record{State: stateCreating}, nil
	}
	var r Record
	if err := json.Unmarshal(text, &r); err != nil {
		return Record{}, fmt.Errorf("record %s: %w", path, err)
	}
	return r, nil
}
