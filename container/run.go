package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// IO is what a foreground call connects to the process. Nil: nothing.
// With a terminal Stdin is put into raw mode when it is one.
type IO struct {
	Stdin          *os.File
	Stdout, Stderr io.Writer
	DetachKeys     string // "" = ctrl-p,ctrl-q
	NoSigProxy     bool
	Skipped        func(bytes uint64) // output was left out: an attached caller read too slowly; may be nil
}

// Run starts the container in the foreground and returns its exit code; also
// `start -a`. Without a terminal this process is the parent and watches the
// container itself: no other process, no socket. With one, or with a restart
// policy, a monitor does, so that the user can detach. ErrDetached when the
// user left so; a start that failed has StartCode(err).
func (c *Container) Run(ctx context.Context, s IO) (int, error) {
	if policy, _, _ := restartPolicy(c.Options.Restart); c.Options.TTY || policy != "no" {
		return c.runMonitored(ctx, s)
	}
	sigs, err := newProxy(!s.NoSigProxy)
	if err != nil {
		return 125, err
	}
	defer sigs.stop()
	start, cancel := context.WithCancel(ctx)
	defer cancel()
	sigs.forward(nil, cancel) // not running yet: give up
	r, err := c.launch(start, stdio{stdin: c.Options.Interactive})
	if err != nil {
		if c.Options.Remove {
			err = errors.Join(err, c.Remove(true, true))
		}
		return StartCode(err), err
	}
	p := newPumps()
	sigs.forward(sendTo(r.proc.Pidfd), p.cut)
	if r.in != nil {
		go func() {
			if s.Stdin != nil {
				io.Copy(r.in, s.Stdin)
			}
			r.in.Close()
		}()
	}
	p.add(r.out, &logStream{log: r.log, name: "stdout"}, s.Stdout)
	p.add(r.err, &logStream{log: r.log, name: "stderr"}, s.Stderr)
	exit, err := r.proc.Wait()
	c.killRest()
	p.drain()
	return p.exitCode(exit.Code, errors.Join(err, r.finish(exit, false)))
}

// LogError is why the log of a run in the foreground lacks something: no reason
// for the run to have failed.
func (c *Container) LogError() error { return c.logErr }

// Why says in one line how it ended, "" when there is nothing to say: the
// answer to "why 137?".
func (c *Container) Why() string {
	st := c.State()
	if st.Status != Exited || st.ExitCode <= 128 {
		return ""
	}
	switch {
	case st.OOMKilled:
		return "out of memory: the kernel killed it at its memory limit of " + fmt.Sprintf("%d bytes", c.Options.Memory)
	case st.ExitCode == 137 && st.StopRequested:
		return "" // asked for
	case st.ExitCode == 137:
		return "killed by SIGKILL, and not at a memory limit: somebody sent the signal, or the host ran out of memory"
	}
	return ""
}
