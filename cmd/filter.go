package cmd

import (
	"path"
	"regexp"
	"strings"
)

// filters are the values of --filter, by key. Values of one key are
// alternatives, keys are all to hold; labels are all to hold too.
type filters map[string][]string

// parseFilters reads KEY=VALUE; keys other than these are an error.
func parseFilters(list []string, keys ...string) (filters, error) {
	f := filters{}
	for _, s := range list {
		key, value, ok := strings.Cut(s, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if !ok {
			return nil, fail("invalid filter "+s+": want KEY=VALUE", "the keys are "+strings.Join(keys, ", "))
		}
		known := false
		for _, k := range keys {
			known = known || k == key
		}
		if !known {
			return nil, fail("unknown filter: "+key, "the keys are "+strings.Join(keys, ", "))
		}
		f[key] = append(f[key], strings.TrimSpace(value))
	}
	return f, nil
}

// any tells whether the key was not asked for, or one of its values fits.
func (f filters) any(key string, fits func(value string) bool) bool {
	values, asked := f[key]
	if !asked {
		return true
	}
	for _, v := range values {
		if fits(v) {
			return true
		}
	}
	return false
}

// name fits a part of one of the names, or a regular expression, as in docker.
func (f filters) name(names ...string) bool {
	return f.any("name", func(v string) bool {
		for _, n := range names {
			if strings.Contains(n, v) {
				return true
			}
			if re, err := regexp.Compile(v); err == nil && (re.MatchString(n) || re.MatchString("/"+n)) {
				return true
			}
		}
		return false
	})
}

// labels fit KEY or KEY=VALUE, each of them.
func (f filters) labels(have map[string]string) bool {
	for _, want := range f["label"] {
		k, v, exact := strings.Cut(want, "=")
		got, ok := have[k]
		if !ok || exact && got != v {
			return false
		}
	}
	return true
}

// reference fits a shell pattern for the name, with or without a tag.
func (f filters) reference(name, tag string) bool {
	return f.any("reference", func(p string) bool {
		for _, n := range [...]string{name, name + ":" + tag, name[strings.LastIndexByte(name, '/')+1:]} {
			if ok, err := path.Match(p, n); err == nil && ok {
				return true
			}
		}
		return false
	})
}
