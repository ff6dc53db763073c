package container

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// Wait returns the exit code once the container has ended for good. With --rm
// the record is gone by then, so the kernel is asked for the code too.
func (c *Container) Wait(ctx context.Context) (int, error) {
	var p exitWatch
	defer p.close()
	for {
		st := c.State()
		switch st.Status {
		case Exited:
			return st.ExitCode, nil
		case Created:
			if _, err := c.store.load(c.ID); err != nil {
				return p.code(), nil
			}
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		p.watch(&st)
		p.wait()
	}
}

// exitWatch holds on to a process by a descriptor, which tells of the end, and
// keeps the exit code after others have reaped it.
type exitWatch struct {
	fd  int // 0: none
	pid int
}

func (p *exitWatch) watch(st *State) {
	if st.Pid == 0 || st.Pid == p.pid {
		return
	}
	p.close()
	fd, err := unix.PidfdOpen(st.Pid, 0)
	if err != nil {
		return
	}
	if !st.alive() { // ended before, the number may be another's
		unix.Close(fd)
		return
	}
	p.fd, p.pid = fd, st.Pid
}

// wait returns when the process ends or after a while: the state is looked at
// again in any case.
func (p *exitWatch) wait() {
	if p.fd == 0 {
		time.Sleep(poll)
		return
	}
	fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
	unix.Poll(fds, 100)
	if fds[0].Revents != 0 { // dead, and soon recorded
		time.Sleep(poll / 4)
	}
}

func (p *exitWatch) close() {
	if p.fd != 0 {
		unix.Close(p.fd)
	}
	p.fd, p.pid = 0, 0
}

// code is the exit code of a process that has been reaped; 0 if the kernel
// does not tell (PIDFD_GET_INFO, Linux 6.15).
func (p *exitWatch) code() int {
	if p.fd == 0 {
		return 0
	}
	var info unix.PidfdInfo
	for range 100 { // it is there once the process has been reaped
		info.Mask = unix.PIDFD_INFO_EXIT
		if unix.IoctlPidfdInfo(p.fd, &info) != nil {
			return 0
		}
		if info.Mask&unix.PIDFD_INFO_EXIT != 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	ws := unix.WaitStatus(info.Exit_code)
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}
