package oci

import (
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/engine"
)

// foreground stands in for a process that runs elsewhere: it passes signals on
// to it, copies its terminal, reaps what it leaves.
type foreground struct {
	log     *logger
	signals chan os.Signal
	others  *time.Timer
	tty     *tty
}

// Go hands the catching of a signal from thread to thread, 15 us for each: all of
// them are a millisecond, more than the start of a container has to spare. So
// those that callers send are caught at once, and the others soon.
var usual = []os.Signal{unix.SIGCHLD, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH}

const soon = 20 * time.Millisecond

// newForeground catches signals from now on: those that come before the process
// is there reach it later.
func (c *call) newForeground(detach bool) *foreground {
	f := &foreground{log: c.log}
	if !detach {
		f.signals = make(chan os.Signal, 2048)
		signal.Notify(f.signals, usual...)
		f.others = time.AfterFunc(soon, func() { signal.Notify(f.signals) })
	}
	return f
}

// terminal connects the master of the process' terminal with the caller's streams.
func (f *foreground) terminal(master *os.File) (err error) {
	signal.Notify(f.signals, unix.SIGPIPE) // a reader of ours that goes must not end us
	f.tty, err = openTTY(master)
	return err
}

// close leaves signals caught, which would cost as much to undo: the program is
// about to end.
func (f *foreground) close() {
	if f.others != nil {
		f.others.Stop()
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
	for s := range f.signals {
		switch s := s.(unix.Signal); s {
		case unix.SIGCHLD:
			if status, ended := f.reap(p.Pid); ended {
				return status
			}
		case unix.SIGWINCH:
			f.tty.resize()
		case unix.SIGURG, unix.SIGPIPE:
			// Go's scheduler and our own writes make these.
		default:
			f.log.debugf(fmt.Sprintf("forwarding signal %d (%s) to %d", int(s), unix.SignalName(s), p.Pid))
			if err := unix.PidfdSendSignal(int(p.Pidfd.Fd()), s, nil, 0); err != nil && err != unix.ESRCH {
				f.log.error(fmt.Sprintf("forward signal %d to %d: %v", int(s), p.Pid, err))
			}
		}
	}
	return 1
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
