package cmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/cgroups"
	"github.com/berth-run/berth/container"
	"github.com/berth-run/berth/image"
	"github.com/berth-run/berth/netns"
)

// All that berth says to a person on stderr is in this file or passes through it.
//
//   - one line, lower case, no full stop: "berth: error: …"
//   - then, if there is something to do about it, "berth: hint: …" with the
//     command to try, as it can be typed
//   - an error names the operation, the object and the cause, in this order
//   - facts that are no error start with "berth: note: "
//   - stdout belongs to results; nothing here goes there
//
// Exit codes: the process's own, or 128+n when signal n ended it; 127 when the
// command is not in the image, 126 when it cannot be executed, 125 for every
// error of berth itself.

const exitBerth = 125

// failure is an error that is ready to be shown.
type failure struct {
	text string
	hint string
	code int
	err  error // cause, for --debug
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.err }

func fail(text, hint string) error { return &failure{text: text, hint: hint, code: exitBerth} }

// exitStatus ends berth with this code and without a word: all has been said.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// status is nil for code 0.
func status(code int) error {
	if code == 0 {
		return nil
	}
	return exitStatus(code)
}

// withCode keeps the exit code that comes with an error.
func withCode(code int, err error) error {
	if err == nil {
		return status(code)
	}
	f := describe(err)
	f.code = code
	if f.hint == "" {
		f.hint = startHint(code)
	}
	return f
}

func startHint(code int) string {
	switch code {
	case 127:
		return "see what is in the image: berth run --rm --entrypoint ls IMAGE /bin /usr/bin"
	case 126:
		return "see its mode and kind: berth run --rm --entrypoint ls IMAGE -l COMMAND"
	}
	return ""
}

// RegistryKind tells why a registry said no.
type RegistryKind int

// The kinds of RegistryError.
const (
	RegistryMissing RegistryKind = iota + 1
	RegistryDenied
	RegistryUnreachable
)

// RegistryError is an error of a Registry, with what berth can say about it.
type RegistryError struct {
	Err  error
	Kind RegistryKind
}

func (e *RegistryError) Error() string { return e.Err.Error() }
func (e *RegistryError) Unwrap() error { return e.Err }

// report shows err and returns the exit code of the process.
func (a *app) report(err error) int {
	if err == nil {
		return 0
	}
	var code exitStatus
	if errors.As(err, &code) {
		return int(code)
	}
	f := describe(err)
	a.say(f)
	return f.code
}

func (a *app) say(f *failure) {
	fmt.Fprintln(a.errw, "berth: error: "+oneLine(f.text))
	if f.hint != "" {
		fmt.Fprintln(a.errw, "berth: hint: "+f.hint)
	}
	if a.debug {
		for err := f.err; err != nil; err = errors.Unwrap(err) {
			fmt.Fprintf(a.errw, "berth: debug: %T: %s\n", err, oneLine(err.Error()))
		}
	}
}

// note tells a fact that is no error.
func (a *app) note(format string, args ...any) {
	fmt.Fprintln(a.errw, "berth: note: "+oneLine(fmt.Sprintf(format, args...)))
}

// debugf tells with --debug what has been reached, and when: milliseconds
// since Main was called.
func (a *app) debugf(format string, args ...any) {
	if a.debug {
		ms := float64(time.Since(a.began).Microseconds()) / 1000
		fmt.Fprintf(a.errw, "berth: debug: %7.3f ms: %s\n", ms, oneLine(fmt.Sprintf(format, args...)))
	}
}

// oneLine joins what errors.Join put on several lines, and keeps control
// characters of image and container names from the terminal.
func oneLine(s string) string {
	s = strings.ReplaceAll(strings.TrimRight(s, "\n."), "\n", "; ")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// describe finds the hint that goes with an error.
func describe(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	f = &failure{text: err.Error(), code: exitBerth, err: err, hint: hintFor(err)}
	var started *container.StartError
	var limit *cgroups.NoControllerError
	switch {
	case errors.As(err, &limit):
		f.text = strings.Replace(f.text, " ("+limit.Fix+")", "", 1)
		f.hint = "leave the limit out, or " + limit.Fix
	case errors.As(err, &started):
		f.code = started.Code
		if f.hint == "" {
			f.hint = startHint(f.code)
		}
	case errors.Is(err, context.Canceled):
		f.text, f.code = "interrupted", 128+int(unix.SIGINT)
		if sig := interruptedBy.Load(); sig != 0 {
			f.code = 128 + int(sig)
		}
	}
	return f
}

// hints in the order they are looked for: what is closest to the cause first.
var hints = [...]struct {
	err  error
	hint string
}{
	{unix.ENOSPC, "see what takes the space: berth system df; free some: berth system prune"},
	{unix.EDQUOT, "see what takes the space: berth system df; free some: berth system prune"},
	{unix.EMFILE, "raise the limit of open files: ulimit -n 65536"},
	{netns.ErrPortInUse, "see who has it: berth ps, or ss -lntup; or take another port: -p HOSTPORT:PORT"},
	{image.ErrReference, "a name looks like registry.example/group/name:tag, all but the tag in lower case"},
	{image.ErrNotFound, "list those that are here: berth images; fetch one: berth pull NAME"},
	{image.ErrAmbiguous, "give more digits; see them all: berth images --no-trunc"},
	{image.ErrManyNames, "remove it with all its names: berth rmi -f ID"},
	{image.ErrInUse, "see which container: berth ps -a --filter ancestor=IMAGE, then berth rm it"},
	{container.ErrNotFound, "list all containers: berth ps -a"},
	{container.ErrNoVolume, "list all volumes: berth volume ls"},
	{container.ErrNotRunning, "start it: berth start CONTAINER"},
	{container.ErrPaused, "let it go on: berth unpause CONTAINER"},
	{container.ErrRunning, "stop it: berth stop CONTAINER, or remove it running: berth rm -f CONTAINER"},
	{container.ErrInUse, "see who has it: berth ps -a"},
	{container.ErrManyLayers, "build the image again with fewer layers (a squashed one has a single one), or boot Linux 6.8 or newer"},
	{errNoNetwork, "list all networks: berth network ls"},
	{cgroups.ErrNoCgroup2, "mount -t cgroup2 none /sys/fs/cgroup"},
	{unix.EROFS, "take a folder that can be written: berth --root DIR"},
}

func hintFor(err error) string {
	var r *RegistryError
	if errors.As(err, &r) {
		switch r.Kind {
		case RegistryMissing:
			return "check the name and the tag; for an image that is here already see: berth images"
		case RegistryDenied:
			return "check the name, or log in: put the credentials into ~/.docker/config.json"
		case RegistryUnreachable:
			return "check the network and the registry's name; without one: berth load -i FILE"
		}
	}
	var stream *os.PathError
	if errors.As(err, &stream) && (stream.Path == os.Stdout.Name() || stream.Path == os.Stderr.Name()) {
		return "" // not of berth's own files
	}
	for _, h := range hints {
		if errors.Is(err, h.err) {
			return h.hint
		}
	}
	return ""
}

// withHint gives an error this hint unless there is a better one.
func withHint(err error, hint string) error {
	f := describe(err)
	if f.hint == "" && !errors.Is(err, context.Canceled) {
		f.hint = hint
	}
	return f
}

// flagHint is for a flag whose value is not to be had.
func flagHint(err error) string {
	text := err.Error()
	switch {
	case errors.Is(err, container.ErrNoNetwork):
		return "the networks are bridge, host, none and container:NAME"
	case strings.Contains(text, "--hostname"):
		return "a host name looks like web-1 or web-1.example.org"
	case errors.Is(err, fs.ErrNotExist):
		return "look for the path on this host: ls -ld PATH"
	}
	return "see what the flags take: berth run --help"
}

// needRoot refuses what an ordinary user cannot do, before half of it is done.
func needRoot() error {
	if os.Geteuid() == 0 {
		return nil
	}
	return fail("this needs root: namespaces, mounts and cgroups are the administrator's", "sudo berth …")
}

func badUsage(err error, path string) error {
	hint := "see all flags: " + path + " --help"
	var u *unknownFlag
	if errors.As(err, &u) && u.similar != "" {
		hint = "did you mean " + u.similar + "? see all flags: " + path + " --help"
	}
	return &failure{text: err.Error(), hint: hint, code: exitBerth, err: err}
}

func badCount(path string, e *entry, n int) error {
	want := fmt.Sprintf("at least %d", e.min)
	switch {
	case e.max == 0:
		want = "no"
	case e.min == e.max:
		want = fmt.Sprintf("exactly %d", e.min)
	case e.max > 0 && n > e.max:
		want = fmt.Sprintf("at most %d", e.max)
	}
	noun := "arguments"
	if e.min == 1 && e.max != 0 && (n < e.min || e.max == 1) || n > e.max && e.max == 1 {
		noun = "argument"
	}
	return fail(fmt.Sprintf("%s needs %s %s, got %d", path, want, noun, n), "see how it is used: "+path+" --help")
}

// dockerCommands are those that berth lacks.
const dockerCommands = " build builder buildx checkpoint commit compose config context cp diff events login logout manifest node plugin search secret service stack swarm trust "

func unknownCommand(path, name string, list []entry) error {
	hint := "see all commands: " + path + " --help"
	if path == "berth" && strings.Contains(dockerCommands, " "+name+" ") {
		return fail("docker has "+name+", berth does not", hint)
	}
	best := 3
	for _, e := range list {
		if e.name[0] != name[0] {
			continue
		}
		if d := distance(name, e.name); d < best && !e.hidden {
			best, hint = d, "did you mean "+path+" "+e.name+"?"
		}
	}
	return fail("unknown command: "+path+" "+name, hint)
}

func badValue(flag, value, want string) error {
	return fail(fmt.Sprintf("invalid value %q for %s: want %s", value, flag, want), "see all flags with --help")
}

func noImage(ref string) error {
	return fail("no such image: "+ref, "fetch it: berth pull "+ref)
}

// failed says why a container ended the way it did, when that is not its own doing.
func (a *app) failed(c *container.Container) {
	if why := c.Why(); why != "" {
		a.note("container %s: %s", c.Name, why)
	}
}
