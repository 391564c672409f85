package demand

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/google/renameio/v2"
)

// maxFile bounds the queue's file, in bytes.
const maxFile = 16 << 20

// save writes the queue, as a whole or not at all; the lock is held.
func (q *Queue) save() error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, id := range q.order {
		e := *q.entries[id]
		if e.State == Running {
			e.State = Waiting
		}
		if err := enc.Encode(e); err != nil {
			return fmt.Errorf("queue %s: %w", q.o.File, err)
		}
	}
	if err := renameio.WriteFile(q.o.File, b.Bytes(), 0o600); err != nil {
		return fmt.Errorf("queue %s: %w", q.o.File, err)
	}
	return nil
}

// load reads the queue. What is not allowed any more, or cannot be, is dropped.
func (q *Queue) load() error {
	f, err := os.Open(q.o.File)
	if errors.Is(err, fs.ErrNotExist) {
		return q.save() // to know now that it can be written
	}
	if err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	for dec := json.NewDecoder(io.LimitReader(f, maxFile)); ; {
		var e Entry
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("queue %s is damaged; move it away to begin with an empty one: %w", q.o.File, err)
		}
		ref, err := Parse(e.Image)
		if err != nil || e.ID != idOf(e.Image) || q.entries[e.ID] != nil || !q.o.Allowed.covers(ref.Name) {
			continue
		}
		switch e.State {
		case Published, Failed:
		default:
			e.State = Waiting
		}
		q.entries[e.ID], q.order = &e, append(q.order, e.ID)
	}
	q.forget()
	return nil
}
