package coldjson

import (
	"encoding"
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"unicode/utf8"
)

// Marshal gives JSON that reads back as that of json.Marshal does. The members
// of maps stand in no order.
func Marshal(v any) ([]byte, error) { return encode(v, false) }

// Sparse is Marshal with all fields left out that are zero: for what is read
// into a zero value again.
func Sparse(v any) ([]byte, error) { return encode(v, true) }

func encode(v any, sparse bool) ([]byte, error) {
	e := encoder{types: map[reflect.Type]*shape{}, sparse: sparse}
	if b, ok := e.value(nil, reflect.Indirect(reflect.ValueOf(v))); ok {
		return b, nil
	}
	return json.Marshal(v)
}

type encoder struct {
	types  map[reflect.Type]*shape
	sparse bool
}

// value appends one value. false: it is for encoding/json.
func (e *encoder) value(b []byte, v reflect.Value) ([]byte, bool) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return append(b, "null"...), true
		}
		return e.value(b, v.Elem())
	}
	if v.IsValid() && v.Type().PkgPath() != "" && v.CanInterface() {
		if m, ok := v.Interface().(encoding.TextMarshaler); ok { // times, addresses
			t, err := m.MarshalText()
			return appendString(b, t), err == nil
		}
		if _, ok := v.Interface().(json.Marshaler); ok {
			return nil, false
		}
	}
	switch v.Kind() {
	case reflect.String:
		return appendString(b, []byte(v.String())), true
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool()), true
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.AppendInt(b, v.Int(), 10), true
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(b, v.Uint(), 10), true
	case reflect.Float64:
		f := v.Float()
		return strconv.AppendFloat(b, f, 'g', -1, 64), !math.IsInf(f, 0) && !math.IsNaN(f)
	case reflect.Slice:
		return e.list(b, v)
	case reflect.Map:
		return e.mapping(b, v)
	case reflect.Struct:
		return e.object(b, v)
	}
	return nil, false
}

func (e *encoder) list(b []byte, v reflect.Value) (_ []byte, ok bool) {
	if v.IsNil() {
		return append(b, "null"...), true
	}
	if v.Type().Elem().Kind() == reflect.Uint8 { // base64
		return nil, false
	}
	b = append(b, '[')
	for i := range v.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		if b, ok = e.value(b, v.Index(i)); !ok {
			return nil, false
		}
	}
	return append(b, ']'), true
}

func (e *encoder) mapping(b []byte, v reflect.Value) (_ []byte, ok bool) {
	if v.IsNil() {
		return append(b, "null"...), true
	}
	if t := v.Type().Key(); t.Kind() != reflect.String || t.PkgPath() != "" {
		return nil, false
	}
	b = append(b, '{')
	for i, it := 0, v.MapRange(); it.Next(); i++ {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, []byte(it.Key().String())), ':')
		if b, ok = e.value(b, it.Value()); !ok {
			return nil, false
		}
	}
	return append(b, '}'), true
}

func (e *encoder) object(b []byte, v reflect.Value) (_ []byte, ok bool) {
	s, known := e.types[v.Type()]
	if !known {
		s = newShape(v.Type())
		e.types[v.Type()] = s
	}
	if s == nil || s.reads || s.text {
		return nil, false
	}
	b = append(b, '{')
	first := true
	for i := range s.fields {
		f := &s.fields[i]
		x := v.FieldByIndex(f.index)
		if (e.sparse || f.omit == "omitzero") && x.IsZero() || f.omit == "omitempty" && empty(x) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(appendString(b, []byte(f.name)), ':')
		if b, ok = e.value(b, x); !ok {
			return nil, false
		}
	}
	return append(b, '}'), true
}

// empty is what omitempty leaves out.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Struct:
		return false
	case reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	}
	return v.IsZero()
}

func appendString(b, p []byte) []byte {
	b = append(b, '"')
	b = AppendEscaped(b, p)
	return append(b, '"')
}

const hexDigits = "0123456789abcdef"

// AppendEscaped writes a string's inside (RFC 8259, 7). Bytes that are no UTF-8
// become U+FFFD, as encoding/json has it.
func AppendEscaped(b, p []byte) []byte {
	start := 0
	for i := 0; i < len(p); {
		c := p[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRune(p[i:])
			if r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
		}
		b = append(b, p[start:i]...)
		switch {
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\t':
			b = append(b, '\\', 't')
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			b = append(b, `\ufffd`...)
		}
		i++
		start = i
	}
	return append(b, p[start:]...)
}
