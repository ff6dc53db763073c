package oci

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/engine"
	"github.com/berth-run/berth/runtime/signals"
)

// foreground stands in for a process that runs elsewhere: it passes signals on
// to it, copies its terminal, reaps what it leaves.
type foreground struct {
	log     *logger
	signals *signals.Catcher // nil: detached
	tty     *tty
}

// newForeground catches signals from now on: those that come before the process
// is there reach it later.
func (c *call) newForeground(detach bool) (*foreground, error) {
	f := &foreground{log: c.log}
	if detach {
		return f, nil
	}
	var err error
	if f.signals, err = signals.Catch(); err == nil {
		c.log.keepOnBrokenPipe()
	}
	return f, err
}

// newParent is newForeground for who makes a container: orphans of one without a
// pid namespace of its own become our children, and not those of the host's process 1.
func (c *call) newParent(b *begin) (*foreground, error) {
	if !b.detach && !b.noSubreaper {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			c.log.warn("set the subreaper: " + err.Error())
		}
	}
	return c.newForeground(b.detach)
}

// terminal connects the master of the process' terminal with the caller's streams.
func (f *foreground) terminal(master *os.File) (err error) {
	f.tty, err = openTTY(master)
	return err
}

func (f *foreground) close() {
	if f.signals != nil {
		f.signals.Close()
	}
	f.tty.close()
}

// wait returns the exit status of the process.
func (f *foreground) wait(p *engine.Process) int {
	defer p.Pidfd.Close()
	f.tty.resize()
	if status, ended := f.reap(p.Pid); ended {
		return status
	}
	for {
		s, err := f.signals.Next()
		if err != nil {
			f.log.error("wait for signals: " + err.Error())
			return 1
		}
		switch s {
		case unix.SIGCHLD:
			if status, ended := f.reap(p.Pid); ended {
				return status
			}
		case unix.SIGWINCH:
			f.tty.resize()
		case unix.SIGPIPE:
			// Our own writes make these.
		default:
			f.log.debugf(fmt.Sprintf("forwarding signal %d (%s) to %d", int(s), unix.SignalName(s), p.Pid))
			if err := unix.PidfdSendSignal(int(p.Pidfd.Fd()), s, nil, 0); err != nil && err != unix.ESRCH {
				f.log.error(fmt.Sprintf("forward signal %d to %d: %v", int(s), p.Pid, err))
			}
		}
	}
}

// reap collects all children that have ended: the process itself and orphans
// that it left to us.
func (f *foreground) reap(process int) (status int, ended bool) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR:
		case err != nil || pid <= 0:
			return status, ended
		case pid == process:
			status, ended = exitStatus(ws), true
			f.log.debugf(fmt.Sprintf("process %d exited with status %d", pid, status))
		default:
			f.log.debugf(fmt.Sprintf("process %d, an orphan, exited with status %d", pid, exitStatus(ws)))
		}
	}
}

// exitStatus is what a shell would tell.
func exitStatus(ws unix.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// end kills a process that nobody can talk to.
func (f *foreground) end(p *engine.Process) error {
	if err := unix.PidfdSendSignal(int(p.Pidfd.Fd()), unix.SIGKILL, nil, 0); err != nil {
		return err
	}
	_, err := p.Wait()
	return err
}
