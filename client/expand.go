package client

import "bytes"

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
		before, rest, ok := bytes.Cut(target, opening)
		if !ok {
			return append(out, target...)
		}
		inner, after, closed := bytes.Cut(rest, []byte(")"))
		if !closed {
			return append(out, target...)
		}
		out = append(out, before...)
		name, fallback, _ := bytes.Cut(inner, []byte(":-"))
		if value, set := r.o.Getenv(string(name)); set {
			out = append(out, value...)
		} else {
			out = append(out, fallback...)
		}
		target = after
	}
}
