package client

import (
	"bytes"
	"iter"
)

// maxTarget is the longest target of a symbolic link that Linux knows.
const maxTarget = 4095

var opening = []byte("$(")

// expand replaces each $(NAME) and $(NAME:-default) of a stored target by the
// variable's value; unset without a default is nothing. A $( that is not
// closed stays as it is, and nothing nests (CVMFS-FORMAT 2.6). Without a
// variable, the result is target itself.
func (r *Repository) expand(target []byte) []byte {
	if !bytes.Contains(target, opening) {
		return target
	}
	var out []byte
	for {
		v, ok := nextVariable(target)
		if !ok {
			return append(out, target...)
		}
		out = append(out, v.before...)
		if value, set := r.o.Getenv(string(v.name)); set {
			out = append(out, value...)
		} else {
			out = append(out, v.fallback...)
		}
		target = v.after
	}
}

// variable is a $(NAME) of a target with what is before and after it.
type variable struct{ before, name, fallback, after []byte }

func nextVariable(target []byte) (v variable, ok bool) {
	before, rest, ok := bytes.Cut(target, opening)
	if !ok {
		return v, false
	}
	inner, after, closed := bytes.Cut(rest, []byte(")"))
	name, fallback, _ := bytes.Cut(inner, []byte(":-"))
	return variable{before, name, fallback, after}, closed
}

// variablesOf yields the names of a target's variables.
func variablesOf(target []byte) iter.Seq[string] {
	return func(yield func(string) bool) {
		for v, ok := nextVariable(target); ok; v, ok = nextVariable(v.after) {
			if !yield(string(v.name)) {
				return
			}
		}
	}
}
