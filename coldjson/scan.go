package coldjson

import (
	"unicode/utf16"
	"unicode/utf8"
)

// scanner takes a document apart (RFC 8259). What it does not take it leaves to
// encoding/json, which takes it or says what is wrong.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// peek is the next byte that is no space, 0 at the end.
func (s *scanner) peek() byte {
	s.space()
	if s.i == len(s.b) {
		return 0
	}
	return s.b[s.i]
}

func (s *scanner) byte(c byte) bool {
	if s.peek() != c || s.i == len(s.b) {
		return false
	}
	s.i++
	return true
}

func (s *scanner) end() bool {
	s.space()
	return s.i == len(s.b)
}

func (s *scanner) word(w string) bool {
	s.space()
	if len(s.b)-s.i < len(w) || string(s.b[s.i:s.i+len(w)]) != w {
		return false
	}
	s.i += len(w)
	return true
}

func (s *scanner) null() bool { return s.word("null") }

func (s *scanner) boolean() (v, ok bool) {
	if s.word("true") {
		return true, true
	}
	return false, s.word("false")
}

// next goes to the next element of a list or an object, behind its comma.
func (s *scanner) next(first bool, last byte) (more, ok bool) {
	if s.byte(last) {
		return false, true
	}
	if first {
		return true, true
	}
	// a comma with nothing behind it is an error, which the element then finds
	return true, s.byte(',') && s.peek() != last
}

// key reads a member's name and the colon.
func (s *scanner) key(first bool) (key string, more, ok bool) {
	if more, ok = s.next(first, '}'); !ok || !more {
		return "", more, ok
	}
	if key, ok = s.str(); !ok {
		return "", false, false
	}
	return key, true, s.byte(':')
}

// str reads a string.
func (s *scanner) str() (string, bool) {
	if !s.byte('"') {
		return "", false
	}
	begin, odd := s.i, false
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			text := s.b[begin:s.i]
			s.i++
			if odd {
				return unescape(text)
			}
			return string(text), true
		case c == '\\':
			odd = true
			s.i++
		case c < ' ':
			return "", false
		case c >= utf8.RuneSelf:
			odd = true
		}
	}
	return "", false
}

var escapes = map[byte]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

func unescape(b []byte) (string, bool) {
	if !utf8.Valid(b) {
		return "", false
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			out = append(out, b[i])
			continue
		}
		i++
		if i == len(b) {
			return "", false
		}
		if c, ok := escapes[b[i]]; ok {
			out = append(out, c)
			continue
		}
		r, ok := hex4(b[i:])
		if !ok || utf16.IsSurrogate(r) { // halves of a pair may be alone
			return "", false
		}
		out = utf8.AppendRune(out, r)
		i += 4
	}
	return string(out), true
}

// hex4 reads u and four hexadecimal digits.
func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 5 || b[0] != 'u' {
		return 0, false
	}
	for _, c := range b[1:5] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// numeral reads a number. whole: it has neither fraction nor exponent.
func (s *scanner) numeral() (text string, whole, ok bool) {
	s.space()
	begin := s.i
	if s.i < len(s.b) && s.b[s.i] == '-' {
		s.i++
	}
	if s.i < len(s.b) && s.b[s.i] == '0' {
		s.i++
	} else if s.digits() == 0 {
		return "", false, false
	}
	whole = true
	if s.i < len(s.b) && s.b[s.i] == '.' {
		s.i++
		whole = false
		if s.digits() == 0 {
			return "", false, false
		}
	}
	if s.i < len(s.b) && (s.b[s.i] == 'e' || s.b[s.i] == 'E') {
		s.i++
		whole = false
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		if s.digits() == 0 {
			return "", false, false
		}
	}
	return string(s.b[begin:s.i]), whole, true
}

func (s *scanner) digits() (n int) {
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
		n++
	}
	return n
}

// raw passes over one value of any kind and gives its text.
func (s *scanner) raw() ([]byte, bool) {
	s.space()
	begin := s.i
	ok := s.skip(0)
	return s.b[begin:s.i], ok
}

func (s *scanner) skip(depth int) bool {
	if depth > maxDepth {
		return false
	}
	switch s.peek() {
	case '{':
		s.i++
		for first := true; ; first = false {
			_, more, ok := s.key(first)
			if !ok || !more {
				return ok
			}
			if !s.skip(depth + 1) {
				return false
			}
		}
	case '[':
		s.i++
		for first := true; ; first = false {
			more, ok := s.next(first, ']')
			if !ok || !more {
				return ok
			}
			if !s.skip(depth + 1) {
				return false
			}
		}
	case '"':
		_, ok := s.str()
		return ok
	case 't', 'f':
		_, ok := s.boolean()
		return ok
	case 'n':
		return s.null()
	}
	_, _, ok := s.numeral()
	return ok
}
