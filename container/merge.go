package container

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/berth-run/berth/image"
)

// defaultPath is what a process gets whose image has no PATH.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// command merges ENTRYPOINT and CMD with the caller's: arguments replace CMD;
// --entrypoint replaces ENTRYPOINT and drops the image's CMD.
// https://docs.docker.com/reference/dockerfile/#understand-how-cmd-and-entrypoint-interact
func command(img *image.Config, o *Options) ([]string, error) {
	entry, cmd := img.Entrypoint, img.Cmd
	if o.Entrypoint != nil {
		entry, cmd = nil, nil
		if *o.Entrypoint != "" {
			entry = []string{*o.Entrypoint}
		}
	}
	if len(o.Args) > 0 {
		cmd = o.Args
	}
	argv := append(append([]string{}, entry...), cmd...)
	if len(argv) == 0 {
		return nil, errors.New("no command specified, and the image has none")
	}
	if argv[0] == "" {
		return nil, errors.New("the command is empty")
	}
	return argv, nil
}

// environment builds the complete environment: the image's, the defaults that
// it lacks, then the files and flags of the caller in their order.
func environment(base []string, o *Options, host, home string) ([]string, error) {
	e := env{}
	for _, kv := range base {
		e.set(kv)
	}
	if path := os.Getenv("PATH"); path != "" && o.Image == HostImage {
		e.fallback("PATH=" + path) // the programs are where the caller finds them
	}
	e.fallback(defaultPath)
	e.fallback("HOSTNAME=" + host)
	if o.TTY {
		e.fallback("TERM=xterm")
	}
	if err := e.callers(o.EnvFile, o.Env); err != nil {
		return nil, err
	}
	e.fallback("HOME=" + home)
	return e, nil
}

// env keeps KEY=VALUE strings, each key once, at the place where it first came.
type env []string

func (e *env) index(key string) int {
	for i, kv := range *e {
		if len(kv) > len(key) && kv[len(key)] == '=' && kv[:len(key)] == key {
			return i
		}
	}
	return -1
}

func (e *env) set(kv string) {
	key, _, has := strings.Cut(kv, "=")
	i := e.index(key)
	switch {
	case !has && i >= 0: // KEY alone takes it away
		*e = append((*e)[:i], (*e)[i+1:]...)
	case !has:
	case i >= 0:
		(*e)[i] = kv
	default:
		*e = append(*e, kv)
	}
}

func (e *env) fallback(kv string) {
	if key, _, _ := strings.Cut(kv, "="); e.index(key) < 0 {
		*e = append(*e, kv)
	}
}

// callers adds --env-file and -e: a KEY alone takes the value of berth's own
// environment, and is removed if it has none there.
func (e *env) callers(files, flags []string) error {
	take := func(kv string) error {
		key, _, has := strings.Cut(kv, "=")
		if key == "" {
			return fmt.Errorf("invalid environment variable: %q", kv)
		}
		if !has {
			if v, ok := os.LookupEnv(key); ok {
				kv = key + "=" + v
			}
		}
		e.set(kv)
		return nil
	}
	for _, name := range files {
		if err := eachLine(name, func(line string) error {
			key, _, _ := strings.Cut(line, "=")
			if strings.ContainsAny(key, " \t") {
				return fmt.Errorf("variable %q contains whitespace", key)
			}
			return take(line)
		}); err != nil {
			return fmt.Errorf("env file %s: %w", name, err)
		}
	}
	for _, kv := range flags {
		if err := take(kv); err != nil {
			return err
		}
	}
	return nil
}

// eachLine calls f for the lines of an env or label file: leading blanks,
// empty lines and comments left out, everything else kept as it is.
func eachLine(name string, f func(string) error) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	sc := bufio.NewScanner(file)
	sc.Buffer(nil, 1<<20)
	for first := true; sc.Scan(); first = false {
		line := sc.Text()
		if first {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		line = strings.TrimLeft(line, " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		if err := f(line); err != nil {
			return err
		}
	}
	return sc.Err()
}

// labels merges the image's labels, label files and flags.
func labels(img map[string]string, o *Options) (map[string]string, error) {
	if len(img)+len(o.LabelFile)+len(o.Labels) == 0 {
		return nil, nil
	}
	all := make(map[string]string, len(img)+len(o.Labels))
	for k, v := range img {
		all[k] = v
	}
	set := func(kv string) error {
		k, v, _ := strings.Cut(kv, "=")
		if k == "" {
			return fmt.Errorf("invalid label %q", kv)
		}
		all[k] = v
		return nil
	}
	for _, name := range o.LabelFile {
		if err := eachLine(name, set); err != nil {
			return nil, fmt.Errorf("label file %s: %w", name, err)
		}
	}
	for _, kv := range o.Labels {
		if err := set(kv); err != nil {
			return nil, err
		}
	}
	return all, nil
}
