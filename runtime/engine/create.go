package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/child"
	"github.com/berth-run/berth/runtime/step"
)

// StartFIFO is the file in a waiting container's state directory on which it
// waits.
const StartFIFO = "start"

// Waiting is a container that is built and waits: its process holds the plan's
// few kilobytes and nothing else.
type Waiting struct {
	*Process
	Gate
}

// Gate is what a waiting container waits at. It can be kept in a file: any
// process that may open the FIFO lets the container go.
type Gate struct {
	Dir  string   `json:"dir"`  // holds the FIFO
	Last int      `json:"last"` // calls of the plan
	Args []string `json:"args"` // of the program
	Path []string `json:"path"` // where it is looked for
}

// Create makes a container whose program is not executed yet. dir is a
// directory of its own, in which a FIFO is made. The container can outlive the
// caller: the FIFO starts it.
func Create(ctx context.Context, c Config, dir string) (*Waiting, error) {
	p, err := DecideWaiting(c, dir)
	if err != nil {
		return nil, err
	}
	return p.Create(ctx)
}

// DecideWaiting is Decide for Plan.Create.
func DecideWaiting(c Config, dir string) (*Plan, error) {
	return decide(c, newHost(&c), dir)
}

// Create makes the container of a plan by DecideWaiting.
func (p *Plan) Create(ctx context.Context) (*Waiting, error) {
	fifo := filepath.Join(p.stateDir, StartFIFO)
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		return nil, &os.PathError{Op: "mkfifo", Path: fifo, Err: err}
	}
	// The process is the container's user by the time it opens it for writing;
	// whoever may read it starts the container. (chmod: the umask does not count.)
	if err := unix.Chmod(fifo, 0o622); err != nil {
		return nil, errors.Join(&os.PathError{Op: "chmod", Path: fifo, Err: err}, os.Remove(fifo))
	}
	proc, err := p.Start(ctx)
	if err != nil {
		return nil, errors.Join(err, os.Remove(fifo))
	}
	return &Waiting{proc, p.Gate()}, nil
}

// Gate is what a container that Create makes of this plan waits at: known as
// soon as Config.Cloned is called.
func (p *Plan) Gate() Gate {
	spec := p.config.Spec.Process
	return Gate{Dir: p.stateDir, Last: p.calls, Args: spec.Args, Path: searchPath(spec)}
}

// Exists tells whether the container still waits.
func (g Gate) Exists() bool {
	return unix.Access(filepath.Join(g.Dir, StartFIFO), unix.F_OK) == nil
}

// Start lets the program be executed and returns when that has happened.
func (w *Waiting) Start() error { return w.Open(w.Process) }

// Open lets the program be executed and returns when that has happened. p is the
// container's process.
func (g Gate) Open(p *Process) error {
	fifo := filepath.Join(g.Dir, StartFIFO)
	// Without a writer this would wait for ever: the child opens it as soon as
	// we do, or it is dead. Opening without blocking, then waiting for the end
	// of file or the report, tells both apart.
	fd, err := unix.Open(fifo, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("start: %w", &os.PathError{Op: "open", Path: fifo, Err: err})
	}
	defer unix.Close(fd)
	defer os.Remove(fifo)
	if err := awaitWriter(fd, int(p.Pidfd.Fd())); err != nil {
		return err
	}
	return g.result(fd, p.Pid)
}

// result reads the report of a program that could not be executed: the last
// calls of the plan are those of its execve.
func (g Gate) result(fd, pid int) error {
	var b [8]byte
	unix.SetNonblock(fd, false)
	n, err := unix.Read(fd, b[:])
	if err != nil {
		return fmt.Errorf("start: read the report: %w", err)
	}
	if n == 0 {
		return died(pid)
	}
	exec := step.Exec{Args: g.Args, Path: g.Path}
	calls := exec.Calls()
	i := child.CallIndex(b[:]) - (g.Last - len(calls))
	errno := unix.Errno(binary.NativeEndian.Uint32(b[4:]))
	if i < 0 || i >= len(calls) {
		return fmt.Errorf("start: %w", errno)
	}
	return startError(exec, calls[i], errno)
}

// awaitWriter waits until the child holds the FIFO, or has come and gone: reading
// then blocks until its report or its end.
func awaitWriter(fifo, pidfd int) error {
	for wait := 20 * time.Microsecond; ; wait = min(2*wait, 10*time.Millisecond) {
		p := []unix.PollFd{{Fd: int32(fifo), Events: unix.POLLIN}, {Fd: int32(pidfd), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, 0); err != nil && err != unix.EINTR {
			return os.NewSyscallError("poll", err)
		}
		if p[0].Revents != 0 { // a report, or POLLHUP: the writer has been here
			return nil
		}
		if p[1].Revents != 0 {
			return ErrDead
		}
		time.Sleep(wait)
	}
}
