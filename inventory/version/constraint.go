package version

import (
	"fmt"
	"strings"
)

// Op is a comparison in a [Constraint].
type Op string

// The comparisons.
const (
	Less         Op = "<"
	LessEqual    Op = "<="
	Equal        Op = "="
	NotEqual     Op = "!="
	GreaterEqual Op = ">="
	Greater      Op = ">"
)

// Term is one comparison.
type Term struct {
	Op      Op
	Version string
}

// Constraint is comparisons that must all hold; none always holds.
type Constraint []Term

// ops are tried in this order, so that "<=" is not taken for "<".
var ops = []struct {
	text string
	op   Op
}{
	{"<<", Less},
	{"<=", LessEqual},
	{">>", Greater},
	{">=", GreaterEqual},
	{"!=", NotEqual},
	{"==", Equal},
	{"<", Less},
	{">", Greater},
	{"=", Equal},
}

// ParseConstraint reads comparisons separated by commas: "< 3.0.2-1" or
// ">= 1.2, < 1.4". It does not look at the versions, whose scheme is not known
// yet. Its errors wrap [ErrInvalid].
func ParseConstraint(text string) (Constraint, error) {
	var c Constraint
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		t, ok := parseTerm(part)
		if !ok {
			return nil, fmt.Errorf("%w: %q is no comparison; write one of < <= = != >= > and a version", ErrInvalid, part)
		}
		c = append(c, t)
	}
	return c, nil
}

func parseTerm(part string) (Term, bool) {
	for _, o := range ops {
		if v, ok := strings.CutPrefix(part, o.text); ok {
			v = strings.TrimSpace(v)
			return Term{o.op, v}, v != "" && len(v) <= MaxLen && !strings.ContainsAny(v, " \t<>=!")
		}
	}
	return Term{}, false
}

// String returns the text ParseConstraint reads as c.
func (c Constraint) String() string {
	parts := make([]string, len(c))
	for i, t := range c {
		parts[i] = string(t.Op) + " " + t.Version
	}
	return strings.Join(parts, ", ")
}

// Holds reports whether text satisfies c in scheme s. It returns an error that
// wraps [ErrInvalid] if text or a version of c is none of s.
func (c Constraint) Holds(s Scheme, text string) (bool, error) {
	if len(c) == 0 {
		return true, nil
	}
	v, err := Parse(s, text)
	if err != nil {
		return false, err
	}
	holds := true
	for _, t := range c {
		w, err := Parse(s, t.Version)
		if err != nil {
			return false, err
		}
		holds = holds && t.Op.holds(v.Compare(w))
	}
	return holds, nil
}

func (o Op) holds(c int) bool {
	switch o {
	case Less:
		return c < 0
	case LessEqual:
		return c <= 0
	case Equal:
		return c == 0
	case NotEqual:
		return c != 0
	case GreaterEqual:
		return c >= 0
	case Greater:
		return c > 0
	}
	return false
}
