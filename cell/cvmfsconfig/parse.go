package cvmfsconfig

import (
	"fmt"
	"strings"
)

// maxNesting bounds conditionals within conditionals.
const maxNesting = 32

// branch is an if that is open: whether its lines count now, and whether any
// of its branches has counted.
type branch struct{ active, taken, last bool }

// parser reads one file into a Config.
type parser struct {
	c    *Config
	file string
	line int
	open []branch
}

// Parse reads text as the file of that name. Understood are KEY=VALUE with
// optional export or readonly before it, quotes as the shell has them, comments
// after #, $KEY, ${KEY} and ${KEY:-default} of what was set before, and
// "if [ A = B ]; then … elif … else … fi" with =, ==, !=, -z and -n.
func (c *Config) Parse(file, text string) error {
	p := parser{c: c, file: file}
	var joined strings.Builder
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\r\n")
		if joined.Len() == 0 {
			p.line = number
		}
		if before, ok := strings.CutSuffix(line, `\`); ok && !strings.HasPrefix(strings.TrimSpace(line), "#") {
			joined.WriteString(before)
			continue
		}
		joined.WriteString(line)
		whole := joined.String()
		joined.Reset()
		if err := p.statement(strings.TrimSpace(whole)); err != nil {
			return err
		}
	}
	if joined.Len() > 0 {
		return p.fail("the file ends in a \\")
	}
	if len(p.open) > 0 {
		return p.fail("an if is not closed by fi")
	}
	return nil
}

func (p *parser) fail(format string, args ...any) error {
	return fmt.Errorf("%w: %s:%d: %s", ErrSyntax, p.file, p.line, fmt.Sprintf(format, args...))
}

func (p *parser) active() bool {
	return len(p.open) == 0 || p.open[len(p.open)-1].active
}

// statement does what one line says. Lines of a branch that does not count are
// looked at only for what opens and closes conditionals.
func (p *parser) statement(s string) error {
	if strings.IndexByte(s, 0) >= 0 {
		return p.fail("a NUL byte")
	}
	word, rest, _ := strings.Cut(s, " ")
	word = strings.TrimSuffix(strings.TrimSuffix(word, ";"), "\t")
	switch word {
	case "if":
		if len(p.open) == maxNesting {
			return p.fail("more than %d conditionals within each other", maxNesting)
		}
		outer := p.active()
		yes, err := p.condition(rest, outer)
		p.open = append(p.open, branch{active: outer && yes, taken: !outer || yes})
		return err
	case "elif", "else", "fi":
		return p.next(word, rest)
	case "then", ":", "true":
		return nil
	}
	if !p.active() {
		return nil
	}
	return p.assignment(s)
}

// next goes to another branch of the innermost conditional.
func (p *parser) next(word, rest string) error {
	if len(p.open) == 0 {
		return p.fail("%s without if", word)
	}
	b := &p.open[len(p.open)-1]
	switch {
	case word == "fi":
		p.open = p.open[:len(p.open)-1]
		return nil
	case b.last:
		return p.fail("%s after else", word)
	case word == "else":
		b.active, b.taken, b.last = !b.taken, true, true
		return nil
	}
	yes, err := p.condition(rest, !b.taken)
	b.active = !b.taken && yes
	b.taken = b.taken || yes
	return err
}

// condition decides "[ A = B ]; then". Where it does not matter, variables
// need not be set sensibly but the form must be right all the same.
func (p *parser) condition(s string, matters bool) (bool, error) {
	s = strings.TrimSpace(s)
	s = strings.TrimSpace(strings.TrimSuffix(s, "then"))
	s = strings.TrimSpace(strings.TrimSuffix(s, ";"))
	open, shut := "[ ", " ]"
	if strings.HasPrefix(s, "[[") {
		open, shut = "[[ ", " ]]"
	}
	inner, ok := strings.CutPrefix(s, open)
	if ok {
		inner, ok = strings.CutSuffix(inner, shut)
	}
	if !ok {
		return false, p.fail(`a condition other than [ A = B ]: %.80q; no shell reads this file`, s)
	}
	words, err := p.words(inner)
	if err != nil || !matters {
		return false, err
	}
	switch {
	case len(words) == 3 && (words[1] == "=" || words[1] == "=="):
		return words[0] == words[2], nil
	case len(words) == 3 && words[1] == "!=":
		return words[0] != words[2], nil
	case len(words) == 2 && words[0] == "-z":
		return words[1] == "", nil
	case len(words) == 2 && words[0] == "-n":
		return words[1] != "", nil
	}
	return false, p.fail("a condition other than [ A = B ], [ A != B ], [ -z A ] and [ -n A ]: %.80q", inner)
}

// words splits the inside of a condition at blanks outside quotes.
func (p *parser) words(s string) ([]string, error) {
	var words []string
	for s = strings.TrimLeft(s, " \t"); s != ""; s = strings.TrimLeft(s, " \t") {
		w, rest, err := p.value(s, " \t")
		if err != nil {
			return nil, err
		}
		words, s = append(words, w), rest
	}
	return words, nil
}

func (p *parser) assignment(s string) error {
	if s == "" || s[0] == '#' {
		return nil
	}
	for _, prefix := range []string{"export ", "readonly "} {
		s = strings.TrimSpace(strings.TrimPrefix(s, prefix))
	}
	key, text, ok := strings.Cut(s, "=")
	if !ok || !isKey(key) {
		return p.fail("neither KEY=VALUE nor a simple if: %.80q; no shell reads this file", s)
	}
	value, rest, err := p.value(text, "")
	if err != nil {
		return err
	}
	if rest != "" {
		return p.fail("text after the value of %s: %.80q", key, rest)
	}
	p.c.set(key, Value{Text: strings.TrimSpace(value), File: p.file, Line: p.line})
	return nil
}

func isKey(s string) bool { return s != "" && keyLength(s) == len(s) }

// keyLength is how many bytes at the beginning of s can be a parameter's name.
func keyLength(s string) int {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(s)
}
