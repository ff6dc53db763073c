package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/berth-run/berth/container"
	"github.com/berth-run/berth/runtime/signals"
)

func (a *app) runCommand() *cli.Command {
	return &cli.Command{
		Usage: "create and run a new container from an image", ArgsUsage: "IMAGE [COMMAND] [ARG...]",
		Description: "IMAGE is a name, an id, oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE, or @host:\nthe host's own files, which the container sees and cannot change.",
		Flags: append(containerFlags(),
			yes("detach,d", "run in the background and print the id"),
			yes("explain", "print each step to stderr while it is done, with its result and time"),
			yes("sig-proxy", "pass signals on to the process (default true)"),
		),
		Action: a.run,
	}
}

func (a *app) run(c *cli.Context) error {
	o, err := containerOptions(c)
	if err != nil {
		return err
	}
	a.keepOnBrokenPipe()
	streams, err := a.streams(c, &o)
	if err != nil {
		return err
	}
	ctr, err := a.newContainer(o, c.Bool("quiet"))
	if err != nil {
		return err
	}
	if o.Explain {
		a.trace(ctr)
	}
	if o.Detach {
		if err := ctr.StartMonitor(context.Background()); err != nil {
			return withCode(container.StartCode(err), err)
		}
		fmt.Fprintln(a.out, ctr.ID)
		return nil
	}
	return a.ended(ctr, func() (int, error) { return ctr.Run(context.Background(), streams) })
}

// ended runs the foreground part of a container and makes an exit code of its end.
func (a *app) ended(ctr *container.Container, foreground func() (int, error)) error {
	code, err := foreground()
	a.debugf("container %s has ended", ctr.Name)
	if errors.Is(err, container.ErrDetached) {
		return nil
	}
	if lost := ctr.LogError(); lost != nil {
		a.note("the log of container %s is not complete: %v", ctr.Name, lost)
	}
	if err == nil {
		a.failed(ctr)
	}
	return withCode(code, err)
}

// streams connects what the flags ask for: all but stdin, which only -i opens.
func (a *app) streams(c *cli.Context, o *container.Options) (container.IO, error) {
	s := container.IO{Stdout: os.Stdout, Stderr: a.errw, DetachKeys: o.DetachKeys, NoSigProxy: !o.SigProxy}
	if o.Interactive {
		s.Stdin = os.Stdin
	}
	attach := c.StringSlice("attach")
	if len(attach) == 0 {
		if o.Detach {
			return s, nil
		}
		return s, needTerminal(s.Stdin, o.TTY)
	}
	if o.Detach {
		return s, fail("conflicting flags: --attach and --detach", "leave out one of them")
	}
	want := strings.ToLower(" " + strings.Join(attach, " ") + " ")
	for word := range strings.FieldsSeq(want) {
		if word != "stdin" && word != "stdout" && word != "stderr" {
			return s, badValue("--attach", word, "stdin, stdout or stderr")
		}
	}
	if !strings.Contains(want, " stdin ") {
		s.Stdin = nil
	}
	if !strings.Contains(want, " stdout ") {
		s.Stdout = io.Discard
	}
	if !strings.Contains(want, " stderr ") {
		s.Stderr = io.Discard
	}
	return s, needTerminal(s.Stdin, o.TTY)
}

// needTerminal refuses -it with a pipe or a file: its end could not be passed on,
// for a terminal has none.
func needTerminal(in *os.File, tty bool) error {
	if in == nil || !tty || term.IsTerminal(int(in.Fd())) {
		return nil
	}
	return &failure{text: "the input device is not a TTY", hint: "leave out -t to pass input on from a pipe or a file", code: 1}
}

// trace prints the steps of a start as they are done.
func (a *app) trace(ctr *container.Container) {
	ctr.Trace = func(step string, err error, d time.Duration) {
		fmt.Fprintf(a.errw, "%8.3f ms  %-8s %s\n", float64(d.Microseconds())/1000, result(err), strings.ReplaceAll(step, "\n", "\n"+strings.Repeat(" ", 22)))
	}
}

// result is the kernel's name for an error: ENOENT.
func result(err error) string {
	var no syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &no):
		return unix.ErrnoName(no)
	}
	return oneLine(err.Error())
}

// keepOnBrokenPipe makes writing to a pipe without a reader an error instead of
// the end of berth: the container's output is only passed on here, and the
// container has to be waited for.
func (a *app) keepOnBrokenPipe() {
	os.Stdout, os.Stderr = signals.Unbroken(os.Stdout), signals.Unbroken(os.Stderr)
	a.out, a.errw = &results{w: os.Stdout}, os.Stderr
}

// interruptedBy is the signal that ended an interruptible context: the exit code
// is 128 and its number, and libraries pass on no more than context.Canceled.
var interruptedBy atomic.Int32

// interruptible is a context that Ctrl-C ends.
func interruptible() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	sigs := make(chan os.Signal, 1)
	signal.Notify(sigs, os.Interrupt, unix.SIGTERM, unix.SIGHUP)
	go func() {
		select {
		case s := <-sigs:
			interruptedBy.Store(int32(s.(syscall.Signal)))
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() { signal.Stop(sigs); cancel() }
}
