package child

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/step"
)

// Options is what Start needs beside the plan.
type Options struct {
	Cgroup *os.File // directory of the cgroup to begin in, nil: the caller's (Linux 5.7)
	PidNS  *os.File // pid namespace to begin in, nil: the caller's, or a new one by CloneFlags
	LowFD  int      // the least number of the error pipe in the child, at least 16
	Trace  bool     // keep what each call returned, for Process.Trace
}

// Process is a child that was cloned. It replays its plan on its own; Started
// tells how that went. The caller reaps it.
type Process struct {
	Pid   int
	Pidfd *os.File

	// Status is how the first process of a plan that hands itself over ended:
	// Pid is 0 if it ended before.
	Status unix.WaitStatus

	plan   *step.Plan
	calls  []step.Call
	owner  []int
	errors *os.File // read end of the error pipe
	report []byte   // of an error, read by Reached
	region *region
	began  clock
}

// Error is a call of the plan that failed.
type Error struct {
	Step  step.Step
	Call  step.Call
	Errno unix.Errno
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s: %s", e.Step, e.Call.Name, e.Errno.Error())
}

// Unwrap gives the errno, for errors.Is.
func (e *Error) Unwrap() error { return e.Errno }

// cloneArgs is struct clone_args up to cgroup (clone3(2), Linux 5.7).
type cloneArgs struct {
	flags, pidfd, childTid, parentTid, exitSignal uint64
	stack, stackSize, tls, setTid, setTidSize     uint64
	cgroup                                        uint64
}

// Start clones the process which replays plan. The plan's error pipe is
// ErrFD. Descriptors of the plan stay the caller's.
func Start(plan *step.Plan, o Options) (*Process, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("pipe for errors: %w", err)
	}
	// The child's end lies above the numbers that steps may tread on.
	errfd, err := unix.FcntlInt(uintptr(pipe[1]), unix.F_DUPFD_CLOEXEC, max(o.LowFD, 16))
	unix.Close(pipe[1])
	if err != nil {
		unix.Close(pipe[0])
		return nil, fmt.Errorf("pipe for errors: %w", err)
	}
	defer unix.Close(errfd) // the child has its own
	p := &Process{plan: plan, errors: os.NewFile(uintptr(pipe[0]), "errors")}
	p.calls, p.owner = plan.Calls()
	region, err := newRegion(p.calls, errfd)
	if err != nil {
		p.errors.Close()
		return nil, err
	}
	pidfd := newCell()
	args := cloneArgs{
		flags:      plan.CloneFlags | unix.CLONE_PIDFD | unix.CLONE_CLEAR_SIGHAND,
		pidfd:      uint64(uintptr(unsafe.Pointer(pidfd))),
		exitSignal: uint64(unix.SIGCHLD),
	}
	if o.Cgroup != nil {
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(o.Cgroup.Fd())
	}
	if o.Trace {
		p.began = now()
	}
	p.Pid, err = p.clone(&args, region, o.PidNS)
	runtime.KeepAlive(o)
	runtime.KeepAlive(pidfd)
	if err != nil {
		return nil, errors.Join(err, p.errors.Close(), region.free())
	}
	p.Pidfd = os.NewFile(uintptr(*pidfd), "pidfd")
	p.region = region
	return p, nil
}

// newCell is memory on the heap, which does not move: the kernel writes to it
// by its address, and a stack may be elsewhere by then.
//
//go:noinline
func newCell() *int32 {
	p := new(int32)
	*p = -1
	return p
}

// Handed waits for the first process of a plan that hands itself over
// (step.Handover), and makes this the process of the other. It is for the
// plan's caller to know that there is one. The error, if a call of the plan
// failed before, comes from Started.
func (p *Process) Handed() error {
	if _, err := Wait4(p.Pid, &p.Status, 0); err != nil {
		return fmt.Errorf("wait for the process that joins namespaces: %w", err)
	}
	p.Pidfd.Close()
	pid := p.region.handed()
	if pid == 0 {
		p.Pid, p.Pidfd = 0, nil
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0) // our child, not waited for: the number is its own
	if err != nil {
		return fmt.Errorf("pidfd of the container's process: %w", err)
	}
	p.Pid, p.Pidfd = pid, os.NewFile(uintptr(fd), "pidfd")
	return nil
}

// Calls is how many the plan has.
func (p *Process) Calls() int { return len(p.calls) }

// Result is what an earlier call of the plan returned, as a number: of the
// process while it waits in a later call. Of several calls that make it, some
// passed over or failed, the last that was made counts.
func (p *Process) Result(r *step.Result) (v int64, made bool) {
	for i, c := range p.calls {
		if c.Out != r {
			continue
		}
		if n, tick := p.region.op(i); tick != 0 {
			v, made = n, true
		}
	}
	return v, made
}

// clone runs clone3. ForkLock keeps descriptors that are being made, and not yet
// close-on-exec, out of the child.
func (p *Process) clone(args *cloneArgs, r *region, pidns *os.File) (int, error) {
	if registered() { // one thread of a program is as the other
		return forkApart(args, r, pidns)
	}
	if pidns != nil {
		// For children only (pid_namespaces(7)); the thread goes back below.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := unix.Setns(int(pidns.Fd()), unix.CLONE_NEWPID); err != nil {
			return 0, fmt.Errorf("join the pid namespace: %w", err)
		}
		defer returnToOwnPidNS()
	}
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	pid, errno := clone(uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), r.base, r.header())
	if errno != 0 {
		return 0, cloneError(unix.Errno(errno), args.flags)
	}
	return int(pid), nil
}

// returnToOwnPidNS undoes setns for the thread. If it fails the thread must not
// be used again: it stays locked and ends with its goroutine.
func returnToOwnPidNS() {
	f, err := os.Open("/proc/self/ns/pid")
	if err == nil {
		err = unix.Setns(int(f.Fd()), unix.CLONE_NEWPID)
		f.Close()
	}
	if err != nil {
		runtime.LockOSThread()
	}
}

func cloneError(errno unix.Errno, flags uint64) error {
	err := fmt.Errorf("clone3 with %s: %w", step.CloneNames(flags), errno)
	switch errno {
	case unix.ENOSPC, unix.EUSERS:
		return fmt.Errorf("%w (a limit of /proc/sys/user is reached)", err)
	case unix.EAGAIN:
		return fmt.Errorf("%w (the pids limit of the cgroup or RLIMIT_NPROC is reached)", err)
	}
	return err
}

// Started waits until the plan has ended: nil when execve succeeded, or when a
// container that waits for start is built; *Error when a call failed.
func (p *Process) Started() error {
	defer p.errors.Close()
	return ReadError(io.MultiReader(bytes.NewReader(p.report), p.errors), p.plan)
}

// Reached waits until the child tells that it is somewhere (step.Tell). false:
// it will not be there, Started has the reason.
func (p *Process) Reached() (bool, error) {
	var b [8]byte
	n, err := p.errors.Read(b[:])
	switch {
	case n == 1:
		return true, nil
	case err != nil && err != io.EOF:
		return false, fmt.Errorf("wait for the child: %w", err)
	}
	p.report = append([]byte{}, b[:n]...)
	return false, nil
}

// Release lets go of everything but the pidfd. It does not end the process.
func (p *Process) Release() error {
	p.errors.Close() // closed before, after Started
	if p.region == nil {
		return nil
	}
	r := p.region
	p.region = nil
	return r.free()
}

// ReadError reads the 8 bytes that a failing child leaves.
func ReadError(r io.Reader, plan *step.Plan) error {
	var b [8]byte
	n, err := io.ReadFull(r, b[:])
	if n == 0 && err == io.EOF {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the child's report: %w", err)
	}
	calls, owner := plan.Calls()
	i := CallIndex(b[:])
	errno := unix.Errno(binary.NativeEndian.Uint32(b[4:]))
	if i >= len(calls) {
		return fmt.Errorf("the child reports an unknown call %d: %w", i, errno)
	}
	return &Error{Step: plan.Steps[owner[i]], Call: calls[i], Errno: errno}
}

// CallIndex is the number of the call in the plan that a report speaks of.
func CallIndex(report []byte) int { return int(binary.NativeEndian.Uint32(report)) / opSize }

// Traced is what one call did.
type Traced struct {
	Step   step.Step
	Call   step.Call
	Result int64         // negative: an errno
	Took   time.Duration // since the call before
	Ended  time.Time
}

// Trace tells of every call that was made until now. Options.Trace was set.
func (p *Process) Trace() []Traced {
	if p.region == nil || p.began.tick == 0 {
		return nil
	}
	end := now()
	var out []Traced
	last := p.began.tick
	for i, c := range p.calls {
		result, tick := p.region.op(i)
		if tick == 0 { // passed over, or not reached
			continue
		}
		ended := p.began.at.Add(end.since(p.began, p.began.tick, tick))
		out = append(out, Traced{p.plan.Steps[p.owner[i]], c, result, end.since(p.began, last, tick), ended})
		last = tick
	}
	return out
}
