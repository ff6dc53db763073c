// Package signals catches signals for a program that lives for milliseconds.
//
// os/signal starts threads for it and hands the catching of each signal from one
// to another, half a millisecond in all. Here a handler of ten instructions
// writes the signal's number into a pipe (the self-pipe of signal(7)), and
// whoever reads the pipe has it.
//
// Signals belong to the whole process: there is one Catcher at a time. Programs
// that embed berth and use os/signal leave this package alone.
package signals

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Catcher has caught signals since Catch.
type Catcher struct {
	r      *os.File
	before map[unix.Signal]sigaction
	faults chan os.Signal // nil: none are wanted
	later  *time.Timer

	mu     sync.Mutex
	closed bool
}

// sigaction is the kernel's struct (rt_sigaction(2)).
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

// handler writes its first argument, the number, as one byte to pipe (handler_*.s).
//
//lint:ignore U1000 addresses, in assembly, takes its address
func handler()

// restorer calls rt_sigreturn(2).
//
//lint:ignore U1000 likewise
func restorer()

func addresses() (handler, restorer uintptr)

// pipe is where the handler writes, 0 before the first Catch. The number is never
// given back: a handler that began on another thread before Close may write yet,
// and must not hit a file that was opened since.
var pipe int64

var one sync.Mutex // held by the Catcher

// ErrBusy: there is a Catcher already.
var ErrBusy = errors.New("signals are caught already")

const (
	saOnStack   = 0x08000000 // on the stack that each of Go's threads has for signals
	saRestart   = 0x10000000
	saRestorer  = 0x04000000
	saNoCldStop = 0x00000001

	lastSignal = 64
)

// faultLater is when the signals of faults are caught, too: they are sent by hand
// once in a blue moon, and take os/signal.
const faultLater = 20 * time.Millisecond

// isFault: Go makes panics of these; a handler of ours would take that away.
func isFault(s unix.Signal) bool {
	switch s {
	case unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP, unix.SIGSYS:
		return true
	}
	return false
}

// ofGo: uncatchable, or Go's scheduler and profiler use them, or the C library's
// threads (32 and 33, nptl(7)).
func ofGo(s unix.Signal) bool {
	switch s {
	case unix.SIGKILL, unix.SIGSTOP, unix.SIGURG, unix.SIGPROF, 32, 33:
		return true
	}
	return false
}

// Catch catches signals from now on; none given: all that can be. ErrBusy.
func Catch(sigs ...unix.Signal) (*Catcher, error) {
	if !one.TryLock() {
		return nil, ErrBusy
	}
	c := &Catcher{before: map[unix.Signal]sigaction{}}
	if len(sigs) == 0 {
		for s := unix.Signal(1); s <= lastSignal; s++ {
			sigs = append(sigs, s)
		}
	}
	if err := c.catch(sigs); err != nil {
		c.Close()
		return nil, fmt.Errorf("catch signals: %w", err)
	}
	return c, nil
}

func (c *Catcher) catch(sigs []unix.Signal) error {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return os.NewSyscallError("pipe2", err)
	}
	c.r = os.NewFile(uintptr(p[0]), "signals")
	if pipe == 0 {
		pipe = int64(p[1])
	} else {
		err := unix.Dup3(p[1], int(pipe), unix.O_CLOEXEC)
		unix.Close(p[1])
		if err != nil {
			return os.NewSyscallError("dup3", err)
		}
	}
	h, r := addresses()
	ours := sigaction{handler: h, flags: saOnStack | saRestart | saRestorer | saNoCldStop, restorer: r, mask: ^uint64(0)}
	var faults []os.Signal
	for _, s := range sigs {
		if isFault(s) {
			faults = append(faults, s)
			continue
		}
		if ofGo(s) {
			continue
		}
		var old sigaction
		if err := action(s, &ours, &old); err != nil {
			return fmt.Errorf("rt_sigaction %d: %w", int(s), err)
		}
		c.before[s] = old
	}
	if len(faults) > 0 {
		c.faults = make(chan os.Signal, 16)
		c.later = time.AfterFunc(faultLater, func() { c.passFaults(faults) })
	}
	return nil
}

func (c *Catcher) passFaults(faults []os.Signal) {
	c.mu.Lock()
	if !c.closed {
		signal.Notify(c.faults, faults...)
	}
	c.mu.Unlock()
	for s := range c.faults {
		unix.Write(int(pipe), []byte{byte(s.(unix.Signal))})
	}
}

func action(s unix.Signal, act, old *sigaction) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(act)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// Next waits for a signal. os.ErrClosed after Close.
func (c *Catcher) Next() (unix.Signal, error) {
	var b [1]byte
	if _, err := c.r.Read(b[:]); err != nil {
		return 0, err
	}
	return unix.Signal(b[0]), nil
}

// Close gives the signals back. What was caught and not read is lost. A second
// time it does nothing.
func (c *Catcher) Close() error {
	c.mu.Lock()
	again := c.closed
	c.closed = true
	c.mu.Unlock()
	if again {
		return nil
	}
	var errs []error
	for s, old := range c.before {
		errs = append(errs, action(s, &old, nil))
	}
	if c.faults != nil {
		c.later.Stop()
		c.mu.Lock()
		signal.Stop(c.faults)
		close(c.faults) // ends passFaults
		c.mu.Unlock()
	}
	if c.r != nil {
		errs = append(errs, c.r.Close())
	}
	one.Unlock()
	return errors.Join(errs...)
}

// Unbroken is the same file under another number. Go ends a program that writes to
// descriptor 1 or 2 when there is no reader, and gives all others EPIPE
// (os/signal, "SIGPIPE"). A closed file is given back as it is.
func Unbroken(f *os.File) *os.File {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return f
	}
	return os.NewFile(uintptr(fd), f.Name())
}
