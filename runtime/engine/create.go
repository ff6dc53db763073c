package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/child"
	"github.com/berth-run/berth/runtime/step"
)

// startFIFO is the file in a waiting container's state directory on which it
// waits.
const startFIFO = "start"

// Waiting is a container that is built and waits: its process holds the plan's
// few kilobytes and nothing else.
type Waiting struct {
	*Process
	dir  string
	plan *step.Plan
}

// Create makes a container whose program is not executed yet. dir is a
// directory of its own, in which a FIFO is made. The container can outlive the
// caller: the FIFO starts it.
func Create(ctx context.Context, c Config, dir string) (*Waiting, error) {
	p, err := decide(c, host{c.Made}, true)
	if err != nil {
		return nil, err
	}
	fifo := filepath.Join(dir, startFIFO)
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		return nil, &os.PathError{Op: "mkfifo", Path: fifo, Err: err}
	}
	p.stateDir = dir
	proc, err := p.start(ctx, p.began)
	if err != nil {
		return nil, errors.Join(err, os.Remove(fifo))
	}
	return &Waiting{Process: proc, dir: dir, plan: p.child}, nil
}

// Start lets the program be executed and returns when that has happened.
func (w *Waiting) Start() error {
	fifo := filepath.Join(w.dir, startFIFO)
	// Without a writer this would wait for ever: the child opens it as soon as
	// we do, or it is dead. Opening without blocking, then waiting for the end
	// of file or the report, tells both apart.
	f, err := os.OpenFile(fifo, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer f.Close()
	defer os.Remove(fifo)
	if err := w.opened(f); err != nil {
		return err
	}
	err = child.ReadError(f, w.plan)
	var failed *child.Error
	if errors.As(err, &failed) {
		return startError(failed.Step, failed.Call, failed.Errno)
	}
	return err
}

// opened waits until the child holds the FIFO, or has come and gone: reading
// then blocks until its report or its end.
func (w *Waiting) opened(f *os.File) error {
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 10*time.Millisecond) {
		p := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}, {Fd: int32(w.Pidfd.Fd()), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, 0); err != nil && err != unix.EINTR {
			return os.NewSyscallError("poll", err)
		}
		if p[0].Revents != 0 { // a report, or POLLHUP: the writer has been here
			return nil
		}
		if p[1].Revents != 0 {
			return fmt.Errorf("start: the container's process is gone: %w", io.ErrUnexpectedEOF)
		}
		time.Sleep(wait)
	}
}
