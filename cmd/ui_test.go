package cmd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/container"
	"github.com/berth-run/berth/image"
)

// each error a user can meet: what it looks like and what is said to do about it
func TestReport(t *testing.T) {
	for _, tc := range []struct {
		err  error
		code int
		want string // "" for silence
	}{
		{nil, 0, ""},
		{exitStatus(7), 7, ""},
		{fmt.Errorf("%w: web", container.ErrNotFound), 125,
			"berth: error: no such container: web\nberth: hint: list all containers: berth ps -a\n"},
		{fmt.Errorf("load: write x: %w", unix.ENOSPC), 125,
			"berth: error: load: write x: no space left on device\nberth: hint: see what takes the space: berth system df; free some: berth system prune\n"},
		{fmt.Errorf("%w \"A\"", image.ErrReference), 125,
			"berth: error: invalid reference \"A\"\nberth: hint: a name looks like registry.example/group/name:tag, all but the tag in lower case\n"},
		{errors.Join(errors.New("one"), errors.New("two")), 125, "berth: error: one; two\n"},
		{errors.New("a\x1b[31m\x00b."), 125, "berth: error: a [31m b\n"},
		{withCode(127, errors.New("no such file")), 127,
			"berth: error: no such file\nberth: hint: see what is in the image: berth run --rm --entrypoint ls IMAGE /bin /usr/bin\n"},
		{&container.StartError{Text: "x: not there", Code: 126}, 126,
			"berth: error: x: not there\nberth: hint: see its mode and kind: berth run --rm --entrypoint ls IMAGE -l COMMAND\n"},
	} {
		var b bytes.Buffer
		a := &app{out: &results{w: io.Discard}, errw: &b}
		if code := a.report(tc.err); code != tc.code || b.String() != tc.want {
			t.Errorf("%v: got %d %q, want %d %q", tc.err, code, b.String(), tc.code, tc.want)
		}
	}
}

func dispatch(args ...string) (stdout, stderr string, err error) {
	var out, errw bytes.Buffer
	a := &app{out: &results{w: &out}, errw: &errw}
	err = a.dispatch(args)
	a.report(err)
	return out.String(), errw.String(), err
}

func TestUsageErrors(t *testing.T) {
	for args, want := range map[string]string{
		"run":                "berth run needs at least 1 argument, got 0\nberth: hint: see how it is used: berth run --help",
		"rename a":           "berth rename needs exactly 2 arguments, got 1",
		"ps x":               "berth ps needs no arguments, got 1",
		"nosuch":             "unknown command: berth nosuch",
		"rnu x":              "did you mean berth run?",
		"volume nosuch":      "unknown command: berth volume nosuch",
		"--nosuch ps":        "unknown flag: --nosuch",
		"run --nosuch image": "unknown flag: --nosuch",
		"ps --al":            "did you mean --all? see all flags: berth ps --help",
	} {
		stdout, stderr, err := dispatch(strings.Fields(args)...)
		if err == nil || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: stdout %q, stderr %q, want %q", args, stdout, stderr, want)
		}
		for line := range strings.Lines(stderr) {
			if !strings.HasPrefix(line, "berth: error: ") && !strings.HasPrefix(line, "berth: hint: ") {
				t.Errorf("%s: odd line %q", args, line)
			}
		}
	}
}

// Every command can be built, has no flag twice, and has help that names its flags.
func TestHelp(t *testing.T) {
	var walk func(path []string, list []entry)
	walk = func(path []string, list []entry) {
		for _, e := range list {
			words := append(path[:len(path):len(path)], e.name)
			for _, args := range [][]string{append([]string{"help"}, words...), append(words[:len(words):len(words)], "--help")} {
				out, _, err := dispatch(args...)
				if err != nil || !strings.HasPrefix(out, "Usage:  berth "+strings.Join(words, " ")) {
					t.Errorf("%v: %q, %v", args, out, err)
				}
			}
			if e.sub != nil {
				walk(words, e.sub())
				continue
			}
			seen := map[string]bool{}
			for _, f := range e.build(&app{}).Flags {
				name, aliases := spellings(f)
				for _, n := range append(aliases, name) {
					if seen[n] {
						t.Errorf("%v: flag %s twice", words, n)
					}
					seen[n] = true
				}
			}
		}
	}
	walk(nil, table())
	out, _, err := dispatch()
	if err != nil || !strings.Contains(out, "  run ") || strings.Contains(out, "monitor") {
		t.Errorf("short help: %q, %v", out, err)
	}
}
