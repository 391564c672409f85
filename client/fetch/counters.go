package fetch

import (
	"errors"
	"sync/atomic"
	"time"
)

// The outcomes by which failed requests are counted.
const (
	outcomeMissing = iota // 404, 410
	outcomeStatus         // any other status that is not the file
	outcomeTimeout        // no answer in time, or too slow
	outcomeNetwork        // no connection, or one that broke off
	outcomeCorrupt        // a body that is not what its name promises
	outcomes
)

var outcomeNames = [outcomes]string{
	outcomeMissing: "missing", outcomeStatus: "status", outcomeTimeout: "timeout",
	outcomeNetwork: "network", outcomeCorrupt: "corrupt",
}

// Counters add up what went over the network. The zero value is ready; a nil
// pointer counts nothing.
type Counters struct {
	requests, bytes, answers, waited, reading atomic.Int64
	failures                                  [outcomes]atomic.Int64
}

// Totals is a moment's reading of [Counters].
type Totals struct {
	Requests int64 // sent
	Answers  int64 // of them, answered with anything at all
	Failures int64 // answered with an error, not at all, or with the wrong bytes
	Bytes    int64 // of bodies received
	// Waited is the sum of the times from a request to its first byte.
	Waited time.Duration
	// Reading is the sum of the times that reads of bodies took.
	Reading time.Duration
	// Outcomes are the failures by what was wrong.
	Outcomes map[string]int64
}

// Totals reads the counters.
func (c *Counters) Totals() Totals {
	if c == nil {
		return Totals{}
	}
	t := Totals{
		Requests: c.requests.Load(), Answers: c.answers.Load(), Bytes: c.bytes.Load(),
		Waited: time.Duration(c.waited.Load()), Reading: time.Duration(c.reading.Load()), Outcomes: make(map[string]int64, outcomes),
	}
	for i := range c.failures {
		n := c.failures[i].Load()
		t.Outcomes[outcomeNames[i]] = n
		t.Failures += n
	}
	return t
}

func (c *Counters) request() {
	if c != nil {
		c.requests.Add(1)
	}
}

func (c *Counters) answered(after time.Duration) {
	if c != nil {
		c.answers.Add(1)
		c.waited.Add(int64(after))
	}
}

func (c *Counters) failure(outcome int) {
	if c != nil {
		c.failures[outcome].Add(1)
	}
}

func (c *Counters) received(n int, took time.Duration) {
	if c != nil {
		c.bytes.Add(int64(n))
		c.reading.Add(int64(took))
	}
}

// outcomeOf is what a failed request or a broken body is counted as.
func outcomeOf(e *Error) int {
	switch {
	case errors.Is(e.Kind, ErrTimeout):
		return outcomeTimeout
	case errors.Is(e.Kind, ErrNotFound):
		return outcomeMissing
	case e.Status != 0:
		return outcomeStatus
	}
	return outcomeNetwork
}

// corruptions is a Fetcher that wants to know of copies that were corrupt.
type corruptions interface{ corrupt() }

func (s *Stack) corrupt() { s.counters.failure(outcomeCorrupt) }
