package oci

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// option is one flag. A table of them is made for the command at hand only.
type option struct {
	names  string // "bundle,b"
	value  string // what help calls its value, "" for a switch
	about  string
	hidden bool
	set    func(value string) error
}

func text(names, value, about string, to *string) option {
	return option{names: names, value: value, about: about, set: func(s string) error { *to = s; return nil }}
}

func yes(names, about string, to *bool) option {
	return option{names: names, about: about, set: func(s string) (err error) {
		*to, err = strconv.ParseBool(s)
		return err
	}}
}

func number(names, about string, to *int) option {
	return option{names: names, value: "N", about: about, set: func(s string) (err error) {
		*to, err = strconv.Atoi(s)
		return err
	}}
}

// list may be given several times; values are not split.
func list(names, value, about string, to *[]string) option {
	return option{names: names, value: value, about: about, set: func(s string) error { *to = append(*to, s); return nil }}
}

func duration(names, about string, to *time.Duration) option {
	return option{names: names, value: "TIME", about: about, set: func(s string) (err error) {
		*to, err = time.ParseDuration(s)
		return err
	}}
}

func hidden(o option) option {
	o.hidden = true
	return o
}

func (o *option) is(name string) bool {
	for n := range strings.SplitSeq(o.names, ",") {
		if n == name {
			return true
		}
	}
	return false
}

// parsed is what is left of a command line.
type parsed struct {
	args []string
	help bool
}

// parse reads options with one dash or two, "-x=v" or "-x v". Those of most
// commands may stand behind arguments: an unknown one is an argument there, and
// an error before the first. Where options are ordered they end at the first
// argument.
func parse(options []option, args []string, ordered bool) (parsed, error) {
	var p parsed
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			p.args = append(p.args, args...)
			break
		}
		name, value, given := cut(arg)
		if name == "" {
			p.args = append(p.args, arg)
			if ordered {
				p.args = append(p.args, args...)
				break
			}
			continue
		}
		if name == "h" || name == "help" {
			p.help = true
			continue
		}
		o := find(options, name)
		switch {
		case o == nil && len(p.args) > 0:
			p.args = append(p.args, arg)
			continue
		case o == nil:
			return p, fmt.Errorf("flag provided but not defined: -%s", name)
		case given:
		case o.value == "":
			value = "true"
		case len(args) == 0:
			return p, fmt.Errorf("flag needs an argument: -%s", name)
		default:
			value, args = args[0], args[1:]
		}
		if err := o.set(value); err != nil {
			return p, invalid(o, name, value, err)
		}
	}
	return p, nil
}

// cut takes an option apart; the name of what is none is "".
func cut(arg string) (name, value string, given bool) {
	if len(arg) < 2 || arg[0] != '-' {
		return "", "", false
	}
	return strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
}

func find(options []option, name string) *option {
	for i := range options {
		if options[i].is(name) {
			return &options[i]
		}
	}
	return nil
}

// invalid has the words of package flag, which runc uses.
func invalid(o *option, name, value string, err error) error {
	reason := "parse error"
	if errors.Is(err, strconv.ErrRange) {
		reason = "value out of range"
	}
	kind := "value"
	if o.value == "" {
		kind = "boolean value"
	}
	return fmt.Errorf("invalid %s %q for flag -%s: %s", kind, value, name, reason)
}
