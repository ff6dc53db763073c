package child

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// A thread of glibc (2.35) has registered an area of its memory with the kernel,
// which writes there on its way back to user space (rseq(2)). fork inherits that:
// a child that gives back the parent's memory would be killed by SIGSEGV. Only the
// owner of the area knows how to unregister it. But a process that shares its
// parent's memory begins without (rseq_fork in linux/rseq.h): so in a program
// with cgo one of that kind stands between, and makes the child as its sibling.

// apart is what that process reads and writes. Offsets: layout.h.
type apart struct {
	outer, inner cloneArgs
	code, header uint64
	ns           int64 // the pid namespace to begin in, -1: none
	helper       int64 // pid of the process between, or an error
	result       int64 // pid of the child, or an error
}

// registered tells whether the kernel knows an area of this thread. It asks it to
// register one that no program can have: EFAULT if there was none before.
// Whatever else it answers, another is there, or a sandbox in the way.
func registered() bool {
	const size = 32 // of struct rseq as it was first
	_, _, errno := unix.RawSyscall6(unix.SYS_RSEQ, ^uintptr(4095), size, 0, 0, 0, 0)
	return errno != unix.EFAULT && errno != unix.ENOSYS
}

// newApart is memory on the heap, as newCell.
//
//go:noinline
func newApart() *apart { return &apart{ns: -1, result: -int64(unix.EAGAIN)} }

// forkApart is clone for a thread that has an area registered. The pid namespace
// is joined by the process between: it stays outside, where nobody can get hold
// of the memory it shares.
func forkApart(args *cloneArgs, r *region, pidns *os.File) (int, error) {
	a := newApart()
	a.inner = *args
	a.inner.flags |= unix.CLONE_PARENT
	a.inner.exitSignal = 0 // with CLONE_PARENT it is that of the process between
	a.outer = cloneArgs{flags: unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_FILES, exitSignal: uint64(unix.SIGCHLD)}
	a.code, a.header = uint64(r.base), uint64(r.header())
	if pidns != nil {
		a.ns = int64(pidns.Fd())
	}
	if err := withoutSignals(func() { cloneApart(a) }); err != nil {
		return 0, err
	}
	runtime.KeepAlive(pidns)
	if a.helper < 0 {
		return 0, fmt.Errorf("clone3 of the process that clones: %w", unix.Errno(-a.helper))
	}
	if _, err := Wait4(int(a.helper), nil, 0); err != nil && err != unix.ECHILD { // a program may reap all its children at one place
		return 0, fmt.Errorf("wait for the process that clones: %w", err)
	}
	if a.result < 0 {
		return 0, cloneError(unix.Errno(-a.result), args.flags)
	}
	return int(a.result), nil
}

// withoutSignals: a handler of the Go runtime must not run in the child, nor in
// what shares our memory. ForkLock: see Process.clone.
func withoutSignals(do func()) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return fmt.Errorf("block signals: %w", err)
	}
	do()
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil); err != nil {
		return fmt.Errorf("restore signals: %w", err)
	}
	return nil
}

// Wait4 is wait4(2), made again after a signal.
func Wait4(pid int, ws *unix.WaitStatus, options int) (int, error) {
	for {
		if got, err := unix.Wait4(pid, ws, options, nil); err != unix.EINTR {
			return got, err
		}
	}
}
