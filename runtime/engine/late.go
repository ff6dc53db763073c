package engine

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/step"
)

// The steps below use descriptors of the parent. A plan is decided before they
// are open, so the argument is a pointer, and Start puts the number there.

type dup struct {
	from *step.Arg
	to   int
}

func (s dup) step() step.Dup     { return step.Dup{From: *s.from, To: s.to} }
func (s dup) String() string     { return s.step().String() }
func (s dup) Calls() []step.Call { return s.step().Calls() }

type setNS struct {
	fd    *step.Arg
	flags uint64
	of    string
}

func (s setNS) step() step.SetNS   { return step.SetNS{FD: *s.fd, Flags: s.flags, Of: s.of} }
func (s setNS) String() string     { return s.step().String() }
func (s setNS) Calls() []step.Call { return s.step().Calls() }

type await struct {
	fd, peer *step.Arg
	what     string
	again    bool
}

func (s await) step() step.Await {
	return step.Await{FD: *s.fd, Peer: *s.peer, For: s.what, Again: s.again}
}
func (s await) String() string     { return s.step().String() }
func (s await) Calls() []step.Call { return s.step().Calls() }

type terminal struct {
	step.Terminal
	socket *step.Arg
}

func (s terminal) step() step.Terminal {
	s.Terminal.Socket = *s.socket
	return s.Terminal
}
func (s terminal) Calls() []step.Call { return s.step().Calls() }

type closeFrom struct {
	step.CloseFrom
	late []lateKept
}

type lateKept struct {
	fd *step.Arg
	as *step.Result
}

func (s closeFrom) step() step.CloseFrom {
	c := step.CloseFrom{First: s.First, Keep: slices.Clone(s.Keep)}
	for _, k := range s.late {
		c.Keep = append(c.Keep, step.Kept{FD: *k.fd, As: k.as})
	}
	return c
}
func (s closeFrom) String() string     { return s.step().String() }
func (s closeFrom) Calls() []step.Call { return s.step().Calls() }

// opened collects descriptors for the child; all are from low on.
type opened struct {
	fds []int
	low int
}

// give puts a descriptor's number into the plan. The descriptor stays the
// caller's; one below low is duplicated.
func (o *opened) give(f *file, fd int) error {
	if f.arg == nil {
		return nil
	}
	if fd < o.low {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, o.low)
		if err != nil {
			return os.NewSyscallError("fcntl F_DUPFD", err)
		}
		o.fds = append(o.fds, n)
		fd = n
	}
	f.arg.Value = uint64(fd)
	return nil
}

// open opens a path for the plan, for as long as the child may need it.
func (o *opened) open(f *file, path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	o.fds = append(o.fds, fd)
	return o.give(f, fd)
}

// stream gives the child one of its standard streams, /dev/null for nil.
func (o *opened) stream(f *file, s *os.File) error {
	if f.arg == nil {
		return nil
	}
	if s == nil {
		return o.open(f, os.DevNull, unix.O_RDWR)
	}
	return o.give(f, int(s.Fd()))
}

func (o *opened) close() {
	for _, fd := range o.fds {
		unix.Close(fd)
	}
}
