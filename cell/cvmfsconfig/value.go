package cvmfsconfig

import "strings"

// maxValue bounds what variables may make of one value, in bytes.
const maxValue = 64 << 10

// value reads a value up to a byte of stop, or to a comment, outside quotes.
// Without quotes, blanks and the shell's ; and | belong to the value, as the
// stock simple parser has it.
func (p *parser) value(s, stop string) (value, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case stop != "" && strings.IndexByte(stop, c) >= 0:
			return b.String(), s[i:], nil
		case c == ';' && (i+1 == len(s) || s[i+1] == ' ' || s[i+1] == '\t'):
			return "", "", p.fail("a second command after ;, or a list that needs quotes")
		case c == '#' && (i == 0 || s[i-1] == ' ' || s[i-1] == '\t'):
			return b.String(), "", nil
		case c == '\'':
			end := strings.IndexByte(s[i+1:], '\'')
			if end < 0 {
				return "", "", p.fail("a quote ' is not closed")
			}
			b.WriteString(s[i+1 : i+1+end])
			i += end + 2
		case c == '"':
			n, err := p.quoted(&b, s[i+1:])
			if err != nil {
				return "", "", err
			}
			i += n + 1
		case c == '\\' && i+1 < len(s):
			b.WriteByte(s[i+1])
			i += 2
		default:
			n, err := p.plain(&b, s[i:])
			if err != nil {
				return "", "", err
			}
			i += n
		}
	}
	return b.String(), "", nil
}

// quoted reads what follows a double quote, and returns how much that is, the
// closing quote included.
func (p *parser) quoted(b *strings.Builder, s string) (int, error) {
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '"':
			return i + 1, nil
		case c == '\\' && i+1 < len(s) && strings.IndexByte("\"\\$`", s[i+1]) >= 0:
			b.WriteByte(s[i+1])
			i += 2
		default:
			n, err := p.plain(b, s[i:])
			if err != nil {
				return 0, err
			}
			i += n
		}
	}
	return 0, p.fail(`a quote " is not closed`)
}

// plain reads one byte, or one variable.
func (p *parser) plain(b *strings.Builder, s string) (int, error) {
	if s[0] == '`' || strings.HasPrefix(s, "$(") {
		return 0, p.fail("a command to be run; no shell reads this file, write its result")
	}
	if s[0] != '$' {
		b.WriteByte(s[0])
		return 1, nil
	}
	if inner, ok := strings.CutPrefix(s, "${"); ok {
		end := strings.IndexByte(inner, '}')
		if end < 0 {
			return 0, p.fail("a ${ is not closed")
		}
		key, fallback, _ := strings.Cut(inner[:end], ":-")
		if !isKey(key) {
			return 0, p.fail("${%.80s} is more than a variable with a default", inner[:end])
		}
		if v := p.c.Values[key].Text; v != "" {
			fallback = v
		}
		return end + 3, p.insert(b, fallback)
	}
	n := keyLength(s[1:])
	if n == 0 {
		b.WriteByte('$')
		return 1, nil
	}
	return n + 1, p.insert(b, p.c.Values[s[1:n+1]].Text)
}

// insert puts a variable's value into a value.
func (p *parser) insert(b *strings.Builder, text string) error {
	if b.Len()+len(text) > maxValue {
		return p.fail("a value of more than %d bytes", maxValue)
	}
	b.WriteString(text)
	return nil
}
