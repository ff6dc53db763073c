package engine

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/cgroups"
)

// ErrDead is a container whose process ended before anybody let it go.
var ErrDead = errors.New("container process is already dead")

// DiedError is a process that ended before its program was executed, and told
// of no call that failed: it was killed.
type DiedError struct {
	Status unix.WaitStatus
	OOM    bool // its cgroup was at its memory limit
	Joined bool // a running container: the OOM kill may have been of another process
}

func (e *DiedError) Error() string {
	how := fmt.Sprintf("the process ended with status %d before its program was executed", e.Status.ExitStatus())
	if e.Status.Signaled() {
		how = fmt.Sprintf("the process was killed by %s before its program was executed", unix.SignalName(e.Status.Signal()))
	}
	switch {
	case e.OOM && e.Joined:
		return how + " (possibly OOM-killed)"
	case e.OOM: // in runc's words
		return "container init was OOM-killed (memory limit too low?)"
	case e.Status.Signaled() && e.Status.Signal() == unix.SIGSYS:
		return how + ": the seccomp profile kills whoever makes a system call that leads there"
	}
	return how
}

// died tells whether a process ended before it executed a program: a
// *DiedError, else nil. It is for after the end of file on a close-on-exec pipe,
// which either may have closed.
func died(pid int) error {
	if hasMemory(pid) {
		return nil
	}
	f := processStat(pid)
	if len(f) < 50 || processFlags(f)&(forkNoExec|exiting) != forkNoExec|exiting {
		return nil // it is gone, and who reaped it knows how it ended; or it runs
	}
	status, err := strconv.ParseUint(f[49], 10, 32)
	if err != nil {
		return fmt.Errorf("how process %d ended: %w", pid, err)
	}
	return &DiedError{Status: unix.WaitStatus(status)}
}

// hasMemory finds out by one cheap call that a process has an address space: one
// that ends gives it back before its descriptors are closed (do_exit in
// kernel/exit.c), and execve has the new one by the time it closes any. No page
// can be mapped at 0 to be read. false may be said of one that has it, but may not
// be looked at (process_vm_readv(2), Linux 3.2).
func hasMemory(pid int) bool {
	var b [1]byte
	_, err := unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &b[0], Len: 1}}, []unix.RemoteIovec{{Base: 0, Len: 1}}, 0)
	return err == nil || err == unix.EFAULT
}

// died is the end of the launched process, with what its cgroup says about it.
func (l *launch) died() error {
	if l.child.Pid == 0 { // before it handed over
		return l.explain(&DiedError{Status: l.child.Status})
	}
	return l.explain(died(l.child.Pid))
}

func (l *launch) explain(err error) error {
	var d *DiedError
	if !errors.As(err, &d) {
		return err
	}
	d.Joined = l.plan.target != nil
	if l.cgroup != nil {
		d.Ask(l.cgroup.Name())
	}
	return d
}

// Ask asks a cgroup whether the kernel killed for want of memory.
func (e *DiedError) Ask(dir string) {
	if e.Status.Signal() == unix.SIGKILL {
		events, err := cgroups.Events(dir)
		e.OOM = err == nil && events["oom_kill"] > 0 // an error: it has no such controller
	}
}
