package container

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A recorder keeps the steps of one start: the caller's are told of as they are
// done, those of the process only when it has been made. A nil one keeps nothing.
type recorder struct {
	mu    sync.Mutex
	steps []tracedStep
}

type tracedStep struct {
	step         string
	err          error
	began, ended time.Time
}

// trace is what packages that do steps are given: nil without a recorder.
func (r *recorder) trace() func(step string, err error, began, ended time.Time) {
	if r == nil {
		return nil
	}
	return func(step string, err error, began, ended time.Time) {
		r.mu.Lock()
		r.steps = append(r.steps, tracedStep{step, err, began, ended})
		r.mu.Unlock()
	}
}

// tell passes all on in the order in which they began: a call of the caller may
// return, on a busy machine, after many of the process that it made.
func (r *recorder) tell(to func(step string, err error, took time.Duration)) {
	if r == nil {
		return
	}
	slices.SortStableFunc(r.steps, func(a, b tracedStep) int { return a.began.Compare(b.began) })
	for _, s := range r.steps {
		to(s.step, s.err, s.ended.Sub(s.began))
	}
	r.steps = nil
}

// A frameTrace is the time in nanoseconds (8 bytes), the errno (4, 0: none),
// and the step; an empty one follows the last.
func traceFrame(step string, err error, took time.Duration) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(took))
	var no syscall.Errno
	if err != nil && !errors.As(err, &no) {
		step += ": " + err.Error()
		no = unix.EIO
	}
	b = binary.BigEndian.AppendUint32(b, uint32(no))
	return append(b, step[:min(len(step), maxFrame-12)]...)
}

// readTrace tells of the steps that the monitor sends before all else.
func (c *Container) readTrace(conn *os.File) {
	var buf []byte
	for {
		t, p, err := readFrame(conn, &buf)
		if err != nil || t != frameTrace || len(p) < 12 {
			return
		}
		var failed error
		if no := binary.BigEndian.Uint32(p[8:]); no != 0 {
			failed = syscall.Errno(no)
		}
		c.Trace(string(p[12:]), failed, time.Duration(binary.BigEndian.Uint64(p)))
	}
}

// spawnFirst starts the monitor with this process as its first client, and
// tells of the steps if they are wanted, also of those of a failed start.
func (c *Container) spawnFirst(ctx context.Context, mode string) (*os.File, error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("attach to %s: %w", c.Name, err)
	}
	theirs := os.NewFile(uintptr(p[1]), "attach")
	unix.SetNonblock(p[0], true)
	ours := os.NewFile(uintptr(p[0]), "attach")
	if c.Trace != nil {
		mode += " explain"
	}
	err = c.spawn(ctx, mode, theirs)
	theirs.Close()
	if c.Trace != nil {
		c.readTrace(ours)
	}
	if err != nil {
		ours.Close()
		return nil, err
	}
	return ours, nil
}
