// Package coldjson reads and writes JSON in a process that sees each type once.
//
// encoding/json builds a table of every type that a type leads to before it reads
// the first byte. A server pays for that once; a command that reads one config.json
// of the OCI and ends pays it each time: two milliseconds, a fifth of a container's
// start. This package walks the values themselves and looks at the types that the
// document really holds.
//
// It does what encoding/json does, which a fuzz test holds it to: whatever is out
// of the ordinary, and every error, is left to that package.
package coldjson

import (
	"encoding"
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// Unmarshal does what json.Unmarshal does. v is a pointer.
func Unmarshal(b []byte, v any) error {
	p := reflect.ValueOf(v)
	if p.Kind() == reflect.Pointer && !p.IsNil() {
		// A document that is left to encoding/json half-way must not have left its
		// traces in v itself. (What v points at may have them: values are fresh mostly.)
		n := reflect.New(p.Type().Elem()).Elem()
		n.Set(p.Elem())
		d := decoder{scanner: scanner{b: b}, types: map[reflect.Type]*shape{}}
		if d.value(n, 0) && d.end() {
			p.Elem().Set(n)
			return nil
		}
	}
	return json.Unmarshal(b, v)
}

// maxDepth is how deep a document that is read here may be.
const maxDepth = 100

type decoder struct {
	scanner
	types map[reflect.Type]*shape
}

// value reads one value into v. false: it is one for encoding/json.
func (d *decoder) value(v reflect.Value, depth int) bool {
	if depth > maxDepth {
		return false
	}
	switch v.Kind() {
	case reflect.Pointer:
		if d.null() {
			v.SetZero()
			return true
		}
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return d.value(v.Elem(), depth+1)
	case reflect.Map, reflect.Slice:
		if v.Type().PkgPath() == "" && d.null() {
			v.SetZero()
			return true
		}
	}
	if v.Type().PkgPath() != "" {
		s := d.shape(v.Type())
		switch {
		case s == nil:
			return false
		case s.reads:
			raw, ok := d.raw()
			return ok && v.Addr().Interface().(json.Unmarshaler).UnmarshalJSON(raw) == nil
		case s.text:
			t, ok := d.str()
			return ok && v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(t)) == nil
		}
	}
	return d.plain(v, depth)
}

// plain reads a value whose type has no form of its own.
func (d *decoder) plain(v reflect.Value, depth int) bool {
	if d.null() {
		switch v.Kind() {
		case reflect.Map, reflect.Slice, reflect.Interface:
			v.SetZero()
		}
		return true
	}
	switch v.Kind() {
	case reflect.Struct:
		return d.object(v, depth)
	case reflect.Map:
		return d.mapping(v, depth)
	case reflect.Slice:
		return d.list(v, depth)
	case reflect.String:
		if v.Type() == number { // which not every string is
			return false
		}
		s, ok := d.str()
		if ok {
			v.SetString(s)
		}
		return ok
	case reflect.Bool:
		x, ok := d.boolean()
		if ok {
			v.SetBool(x)
		}
		return ok
	}
	return d.number(v)
}

func (d *decoder) number(v reflect.Value) bool {
	text, whole, ok := d.numeral()
	if !ok {
		return false
	}
	switch v.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if !whole || err != nil || v.OverflowInt(n) {
			return false
		}
		v.SetInt(n)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(text, 10, 64)
		if !whole || err != nil || v.OverflowUint(n) {
			return false
		}
		v.SetUint(n)
	case reflect.Float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsInf(n, 0) {
			return false
		}
		v.SetFloat(n)
	default:
		return false
	}
	return true
}

// object reads a struct. A key that comes twice is for encoding/json: it has
// rules for what stays of the first.
func (d *decoder) object(v reflect.Value, depth int) bool {
	s := d.shape(v.Type())
	if s == nil || len(s.fields) > 64 || !d.byte('{') {
		return false
	}
	var seen uint64
	for first := true; ; first = false {
		key, more, ok := d.key(first)
		if !ok || !more {
			return ok
		}
		i := s.find(key)
		if i < 0 {
			if _, ok := d.raw(); !ok {
				return false
			}
			continue
		}
		if seen&(1<<i) != 0 {
			return false
		}
		seen |= 1 << i
		if !d.value(v.FieldByIndex(s.fields[i].index), depth+1) {
			return false
		}
	}
}

func (d *decoder) mapping(v reflect.Value, depth int) bool {
	t := v.Type()
	if t.Key().Kind() != reflect.String || t.Key().PkgPath() != "" || !d.byte('{') {
		return false
	}
	if v.IsNil() {
		v.Set(reflect.MakeMap(t))
	}
	for first := true; ; first = false {
		key, more, ok := d.key(first)
		if !ok || !more {
			return ok
		}
		elem := reflect.New(t.Elem()).Elem()
		if !d.value(elem, depth+1) {
			return false
		}
		v.SetMapIndex(reflect.ValueOf(key), elem)
	}
}

func (d *decoder) list(v reflect.Value, depth int) bool {
	// bytes are base64; what is in a list already is changed by the rules of encoding/json
	if v.Type().Elem().Kind() == reflect.Uint8 || v.Len() > 0 || !d.byte('[') {
		return false
	}
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	for first := true; ; first = false {
		more, ok := d.next(first, ']')
		if !ok || !more {
			return ok
		}
		if v.Len() == v.Cap() {
			v.Grow(1)
		}
		v.SetLen(v.Len() + 1)
		if !d.value(v.Index(v.Len()-1), depth+1) {
			return false
		}
	}
}

// shape is what has to be known of a type. nil: it is for encoding/json.
func (d *decoder) shape(t reflect.Type) *shape {
	s, known := d.types[t]
	if !known {
		s = newShape(t)
		d.types[t] = s
	}
	return s
}

// shape is a type with a name or with fields.
type shape struct {
	reads, text bool // has a form of its own
	fields      []field
}

type field struct {
	name  string
	index []int // of a field of an embedded struct more than one
	omit  string
}

var (
	number     = reflect.TypeFor[json.Number]()
	reader     = reflect.TypeFor[json.Unmarshaler]()
	textReader = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func newShape(t reflect.Type) *shape {
	s := &shape{}
	if t.PkgPath() != "" {
		p := reflect.PointerTo(t)
		s.reads = p.Implements(reader)
		s.text = !s.reads && p.Implements(textReader)
	}
	if s.reads || s.text || t.Kind() != reflect.Struct {
		return s
	}
	var ok bool
	if s.fields, ok = fieldsOf(t, nil, nil); !ok {
		return nil
	}
	return s
}

// fieldsOf lists the fields as encoding/json names them. false: the type has
// some whose rules only that package knows.
func fieldsOf(t reflect.Type, at []int, out []field) ([]field, bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		if tag == "-" || !f.IsExported() && !f.Anonymous {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		index := append(at[:len(at):len(at)], i)
		if f.Anonymous && name == "" {
			if f.Type.Kind() != reflect.Struct {
				return nil, false
			}
			var ok bool
			if out, ok = fieldsOf(f.Type, index, out); !ok {
				return nil, false
			}
			continue
		}
		if !f.IsExported() { // embedded, and named by a tag
			return nil, false
		}
		if name == "" {
			name = f.Name
		}
		for _, known := range out {
			if strings.EqualFold(known.name, name) {
				return nil, false
			}
		}
		switch options {
		case "", "omitempty", "omitzero":
		default:
			return nil, false
		}
		out = append(out, field{name, index, options})
	}
	return out, true
}

// find gives the field of a key, as it is written or else but for case. -1: there is none.
func (s *shape) find(key string) int {
	for i := range s.fields {
		if s.fields[i].name == key {
			return i
		}
	}
	for i := range s.fields {
		if strings.EqualFold(s.fields[i].name, key) {
			return i
		}
	}
	return -1
}
