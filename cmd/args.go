package cmd

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// parsed is a command line taken apart.
type parsed struct {
	values []flagValue // in the order they were given
	used   []cli.Flag  // each flag that occurs, once
	args   []string    // all that is no flag
	help   bool
}

type flagValue struct{ name, value string }

// flags is the form urfave/cli is given.
func (p *parsed) flags() []string {
	out := make([]string, len(p.values))
	for i, v := range p.values {
		out[i] = "--" + v.name + "=" + v.value
	}
	return out
}

// unknownFlag is a flag that the command does not have.
type unknownFlag struct {
	flag    string // with its dashes, as typed
	similar string // the nearest one the command has, or ""
}

func (e *unknownFlag) Error() string {
	if strings.Contains(dockerOnly, " "+e.flag+" ") {
		return "docker has " + e.flag + ", berth does not"
	}
	return "unknown flag: " + e.flag
}

// dockerOnly are docker's flags of run and create that berth lacks: no slips of
// the keyboard, whatever they look like.
const dockerOnly = " --blkio-weight-device --cgroup-parent --cpu-count --cpu-percent --cpu-rt-period --cpu-rt-runtime" +
	" --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --gpus --health-cmd" +
	" --health-interval --health-retries --health-start-interval --health-start-period --health-timeout --io-maxbandwidth" +
	" --io-maxiops --ip --ip6 --isolation --kernel-memory --link --link-local-ip --log-opt --memory-swappiness" +
	" --network-alias --net-alias --oom-kill-disable --runtime --storage-opt --use-api-socket --userns --volume-driver "

// parse reads args by the rules of pflag, which docker uses. With literal, the
// first argument that is no flag ends the flags: what follows belongs to the
// container's command. Without, flags and names may come in any order.
//
//	-itd          bool flags combine
//	-eA=1 -w/tmp  a value may follow its letter, -e=A=1 too
//	--flag=value --flag value
//	--flag=false  for a bool
//	--            ends the flags
func parse(flags []cli.Flag, args []string, literal bool) (*parsed, error) {
	r := &argReader{flags: index(flags), args: args, p: &parsed{}}
	for len(r.args) > 0 {
		arg := r.next()
		var err error
		switch {
		case arg == "--":
			r.p.args = append(r.p.args, r.args...)
			return r.p, nil
		case strings.HasPrefix(arg, "--"):
			err = r.long(arg)
		case len(arg) > 1 && arg[0] == '-':
			err = r.short(arg)
		default:
			r.p.args = append(r.p.args, arg)
			if literal {
				r.p.args = append(r.p.args, r.args...)
				return r.p, nil
			}
		}
		if err != nil {
			return nil, err
		}
		if r.p.help {
			return r.p, nil
		}
	}
	return r.p, nil
}

// index maps every spelling to its flag. A letter is a short flag only.
func index(flags []cli.Flag) map[string]cli.Flag {
	m := make(map[string]cli.Flag, 2*len(flags))
	for _, f := range flags {
		name, aliases := spellings(f)
		m[name] = f
		for _, a := range aliases {
			m[a] = f
		}
	}
	return m
}

type argReader struct {
	flags map[string]cli.Flag
	args  []string
	p     *parsed
}

func (r *argReader) next() string {
	a := r.args[0]
	r.args = r.args[1:]
	return a
}

func (r *argReader) long(arg string) error {
	name, value, has := strings.Cut(arg[2:], "=")
	f := r.flags[name]
	if f == nil || len(name) < 2 {
		if name == "help" {
			r.p.help = true
			return nil
		}
		return r.unknown("--" + name)
	}
	if _, isBool := f.(*cli.BoolFlag); isBool {
		if !has {
			value = "true"
		}
	} else if !has {
		if len(r.args) == 0 {
			return fmt.Errorf("flag needs an argument: --%s", name)
		}
		value = r.next()
	}
	return r.take(f, "--"+name, value)
}

// short reads one or more letters behind one dash.
func (r *argReader) short(arg string) error {
	for i := 1; i < len(arg); i++ {
		name := arg[i : i+1]
		f := r.flags[name]
		if f == nil {
			if name == "h" {
				r.p.help = true
				return nil
			}
			if i == 1 && len(arg) > 2 {
				return r.unknown(arg)
			}
			return r.unknown("-" + name)
		}
		rest := arg[i+1:]
		if _, isBool := f.(*cli.BoolFlag); isBool {
			value := "true"
			if strings.HasPrefix(rest, "=") {
				value, rest = rest[1:], ""
			}
			if err := r.take(f, "-"+name, value); err != nil {
				return err
			}
			if rest == "" {
				return nil
			}
			continue
		}
		if rest == "" {
			if len(r.args) == 0 {
				return fmt.Errorf("flag needs an argument: -%s", name)
			}
			return r.take(f, "-"+name, r.next())
		}
		return r.take(f, "-"+name, strings.TrimPrefix(rest, "="))
	}
	return nil
}

func (r *argReader) take(f cli.Flag, typed, value string) error {
	name, _ := spellings(f)
	if _, isBool := f.(*cli.BoolFlag); isBool {
		b, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("invalid value %q for %s: want true or false", value, typed)
		}
		value = strconv.FormatBool(b)
	}
	seen := false
	for _, v := range r.p.values {
		seen = seen || v.name == name
	}
	if !seen {
		r.p.used = append(r.p.used, f)
	}
	r.p.values = append(r.p.values, flagValue{name, value})
	return nil
}

func (r *argReader) unknown(flag string) error {
	e := &unknownFlag{flag: flag}
	best := 3 // more typing errors than this are another word
	typed := strings.TrimLeft(flag, "-")
	if len(typed) < 2 || strings.Contains(dockerOnly, " "+flag+" ") {
		return e
	}
	for name := range r.flags {
		if name[0] != typed[0] {
			continue
		}
		if d := distance(typed, name); len(name) > 1 && (d < best || d == best && "--"+name < e.similar) {
			best, e.similar = d, "--"+name
		}
	}
	return e
}

// distance counts the letters to add, drop or change to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
