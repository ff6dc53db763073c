package container

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
)

// appendJSON writes v as encoding/json would, zero fields left out. That one
// builds a table of each type's fields before it writes the first byte, 250
// microseconds for a record in a process that writes just one; this walks the
// values. Only what records are made of is known here.
func appendJSON(b []byte, v reflect.Value) ([]byte, error) {
	if m, ok := v.Interface().(encoding.TextMarshaler); ok { // times, addresses
		t, err := m.MarshalText()
		return appendText(b, t), err
	}
	switch v.Kind() {
	case reflect.String:
		return appendText(b, []byte(v.String())), nil
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool()), nil
	case reflect.Int, reflect.Int64:
		return strconv.AppendInt(b, v.Int(), 10), nil
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(b, v.Uint(), 10), nil
	case reflect.Float64:
		return strconv.AppendFloat(b, v.Float(), 'g', -1, 64), nil
	case reflect.Pointer:
		return appendJSON(b, v.Elem()) // never nil: that is zero
	case reflect.Slice:
		return appendList(b, v)
	case reflect.Map:
		return appendMap(b, v)
	case reflect.Struct:
		return appendStruct(b, v)
	}
	return b, fmt.Errorf("write record: values of type %s have no form", v.Type())
}

func appendText(b, p []byte) []byte {
	b = append(b, '"')
	b = appendEscaped(b, p)
	return append(b, '"')
}

func appendList(b []byte, v reflect.Value) (_ []byte, err error) {
	b = append(b, '[')
	for i := range v.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendJSON(b, v.Index(i)); err != nil {
			return b, err
		}
	}
	return append(b, ']'), nil
}

func appendMap(b []byte, v reflect.Value) (_ []byte, err error) {
	b = append(b, '{')
	for i, it := 0, v.MapRange(); it.Next(); i++ {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendText(b, []byte(it.Key().String())), ':')
		if b, err = appendJSON(b, it.Value()); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

func appendStruct(b []byte, v reflect.Value) (_ []byte, err error) {
	b = append(b, '{')
	first := true
	for i := range v.NumField() {
		f := v.Field(i)
		if f.IsZero() {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(appendText(b, []byte(v.Type().Field(i).Name)), ':')
		if b, err = appendJSON(b, f); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}
