package bosh_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// ruby renders jobs, one after the other: to start it takes longer than what it
// does. It ends with its standard input, which is the tests'.
type ruby struct {
	mu  sync.Mutex
	in  io.Writer
	out *bufio.Reader
}

var startedRuby = sync.OnceValues(func() (*ruby, error) {
	cmd := exec.Command("ruby", "testdata/render.rb")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &ruby{in: in, out: bufio.NewReader(out)}, cmd.Start()
})

func theRuby(t testing.TB) *ruby {
	t.Helper()
	r, err := startedRuby()
	must(t, err)
	return r
}

// render has one document rendered and returns what is wrong with it.
func (r *ruby) render(t testing.TB, doc []byte) error {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err := r.in.Write(append(doc, '\n'))
	must(t, err)
	line, err := r.out.ReadBytes('\n')
	must(t, err)
	var answer struct{ Wrong string }
	must(t, json.Unmarshal(line, &answer))
	if answer.Wrong != "" {
		return errors.New(answer.Wrong)
	}
	return nil
}
