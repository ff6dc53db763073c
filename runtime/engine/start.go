package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/cgroups"
	"github.com/berth-run/berth/runtime/child"
	"github.com/berth-run/berth/runtime/step"
)

// Process is the first process of a running container, or one that joined it.
// Close or Wait lets go of it; neither ends it.
type Process struct {
	Pid     int
	Pidfd   *os.File
	Console *os.File // master of the terminal, with Process.Terminal; the caller's to close
}

// Exit is how a process ended.
type Exit struct {
	Code     int // its status, 128+n when signal n ended it
	Signaled bool
}

// Wait reaps the process. Only the parent can: the Go process that started it.
func (p *Process) Wait() (Exit, error) {
	defer p.Pidfd.Close()
	ws, err := p.reap()
	switch {
	case err != nil:
		return Exit{}, fmt.Errorf("wait for process %d: %w", p.Pid, err)
	case ws.Signaled():
		return Exit{128 + int(ws.Signal()), true}, nil
	}
	return Exit{ws.ExitStatus(), false}, nil
}

// reap waits for the pidfd in Go's poller, which other goroutines share: in
// wait4 it would take a thread.
func (p *Process) reap() (ws unix.WaitStatus, err error) {
	wait := func(how int) (done bool) {
		var pid int
		pid, err = child.Wait4(p.Pid, &ws, how)
		return pid != 0 || err != nil
	}
	fd, dupErr := unix.FcntlInt(p.Pidfd.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if dupErr != nil || unix.SetNonblock(fd, true) != nil {
		wait(0)
		return ws, err
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	conn, connErr := f.SyscallConn()
	if connErr != nil || conn.Read(func(uintptr) bool { return wait(unix.WNOHANG) }) != nil {
		wait(0) // no poller for it
	}
	return ws, err
}

// Kill ends the process.
func (p *Process) Kill() error { return unix.PidfdSendSignal(int(p.Pidfd.Fd()), unix.SIGKILL, nil, 0) }

// Err is nil for a process that ended well, else it says how it ended, in the
// words of os/exec.
func (e Exit) Err() error {
	switch {
	case e.Signaled:
		return fmt.Errorf("signal: %s", unix.Signal(e.Code-128))
	case e.Code != 0:
		return fmt.Errorf("exit status %d", e.Code)
	}
	return nil
}

// Start makes the container and returns when its program has been executed. On
// an error nothing of it runs any more; the cgroup, if one was applied, is left
// for the caller to remove, who has it in the Config.
func (p *Plan) Start(ctx context.Context) (*Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l := &launch{plan: p, open: opened{low: p.lowFD}}
	defer l.close()
	if err := l.prepare(); err != nil {
		return nil, err
	}
	if err := l.clone(); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { unix.PidfdSendSignal(l.signal, unix.SIGKILL, nil, 0) })
	err := l.phases()
	if err == nil {
		err = l.finish()
	} else if died := l.died(); died != nil { // that is why what the parent did with it failed
		if err = l.finish(); err == nil { // its own error is worth more
			err = died
		}
	}
	var died *DiedError
	if !stop() && (err == nil || errors.As(err, &died)) {
		err = ctx.Err()
	}
	if p.config.Trace != nil {
		l.trace(err)
	}
	if err != nil {
		return nil, errors.Join(err, l.abandon())
	}
	return &Process{Pid: l.child.Pid, Pidfd: l.pidfd, Console: l.console}, nil
}

// phases does the parent's share while the child builds its root.
func (l *launch) phases() error {
	for _, p := range l.plan.phases {
		if p.tell {
			reached, err := l.child.Reached()
			if err != nil || !reached {
				return err // finish has the child's own
			}
		}
		if err := p.act(l); err != nil {
			return err
		}
		// If the child has failed by now nobody reads; its own error is told then.
		if _, err := unix.Write(l.goOn, []byte{1}); err != nil && err != unix.EPIPE {
			return fmt.Errorf("let the container go on: %w", err)
		}
	}
	return nil
}

// began is the parent's share that needs the process and nothing of its root.
func (l *launch) began() error {
	c := &l.plan.config
	if c.Cloned != nil {
		if err := c.Cloned(l.child.Pid); err != nil {
			return err
		}
	}
	if c.Resctrl != nil {
		if err := l.timed("# its group of resctrl", func() error { return c.Resctrl.Enter(l.child.Pid) }); err != nil {
			return fmt.Errorf("unable to apply Intel RDT configuration: %w", err)
		}
	}
	if c.filtered() && l.cgroup != nil {
		// Compiling it takes the kernel a third of a millisecond: time enough for the child.
		err := l.timed(fmt.Sprintf("# device filter of %d rules: bpf(BPF_PROG_LOAD), bpf(BPF_PROG_ATTACH)", len(c.Devices)), func() error {
			return cgroups.DeviceFilter(l.cgroup, c.Devices)
		})
		if err != nil {
			return err
		}
	}
	if c.Network != nil {
		return c.Network(l.child.Pid)
	}
	return nil
}

// mapped gives a new user namespace its ids, and the process what needs rights
// outside of it.
func (l *launch) mapped() error {
	c := &l.plan.config
	if adj := c.Spec.Process.OOMScoreAdj; adj != nil {
		f := fmt.Sprintf("/proc/%d/oom_score_adj", l.child.Pid)
		if err := os.WriteFile(f, []byte(strconv.Itoa(*adj)), 0); err != nil {
			return fmt.Errorf("set oom_score_adj: %w", err)
		}
	}
	if c.Map != nil {
		return c.Map(l.child.Pid, c.Spec.Linux)
	}
	return writeMappings(l.child.Pid, c.Spec.Linux.UIDMappings, c.Spec.Linux.GIDMappings)
}

// mounted is called with the root filled and not yet entered.
func (l *launch) mounted() error {
	for _, dir := range l.plan.copyUp {
		if err := copyUp(l.child.Pid, l.plan.config.Rootfs.Dir(), dir); err != nil {
			return fmt.Errorf("copy %s of the root into its tmpfs: %w", dir, err)
		}
	}
	if l.plan.config.Mounted != nil {
		return l.plan.config.Mounted(l.child.Pid)
	}
	return nil
}

// notify fetches the descriptor of notifications (pidfd_getfd(2), Linux 5.6):
// sending it would be a call that the filter sees.
func (l *launch) notify() error {
	n, ok := l.child.Result(l.plan.listener)
	if !ok || n < 0 {
		return errors.New("the seccomp filter gave no descriptor for notifications")
	}
	fd, err := unix.PidfdGetfd(int(l.pidfd.Fd()), int(n), 0)
	if err != nil {
		return fmt.Errorf("take the descriptor of seccomp notifications: pidfd_getfd: %w", err)
	}
	return l.plan.config.Notify(l.child.Pid, os.NewFile(uintptr(fd), "seccomp notify"))
}

// launch is one execution of a plan.
type launch struct {
	plan    *Plan
	open    opened
	cgroup  *os.File
	pidNS   *os.File
	goOn    int // write end of the sync pipe, -1: none
	socket  int // our end of the terminal's socket, -1: none
	child   *child.Process
	pidfd   *os.File
	signal  int        // number of the pidfd
	holder  *holder    // first process of a cgroup that needs one, nil: none
	maps    []*os.File // user namespaces of id-mapped mounts
	console *os.File
}

// prepare opens what the plan speaks of and makes the cgroup.
func (l *launch) prepare() error {
	l.goOn, l.socket = -1, -1
	f, c := &l.plan.files, &l.plan.config
	for _, s := range []struct {
		at   *file
		file *os.File
	}{{&f.stdin, c.Stdin}, {&f.stdout, c.Stdout}, {&f.stderr, c.Stderr}} {
		if err := l.open.stream(s.at, s.file); err != nil {
			return fmt.Errorf("standard streams: %w", err)
		}
	}
	for i := range f.ns {
		if l.plan.target != nil {
			if err := l.open.give(&f.ns[i], int(l.plan.target.Fd())); err != nil {
				return err
			}
			continue
		}
		if err := l.open.open(&f.ns[i], f.ns[i].path, unix.O_RDONLY); err != nil {
			return fmt.Errorf("join a namespace: %w", err)
		}
	}
	if l.plan.pidNS != "" {
		ns, err := os.Open(l.plan.pidNS)
		if err != nil {
			return fmt.Errorf("join the pid namespace: %w", err)
		}
		l.pidNS = ns
	}
	if l.plan.files.state.arg != nil {
		if err := l.openState(); err != nil {
			return err
		}
	}
	if err := l.channels(); err != nil {
		return err
	}
	if err := l.takeTrees(); err != nil {
		return err
	}
	return l.enterCgroup()
}

// openState opens the directory of the FIFO as the root of a mount of its own:
// what waits with it has nothing above it to lead to.
func (l *launch) openState() error {
	f, dir := &l.plan.files.state, l.plan.stateDir
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err == unix.EPERM { // an unprivileged caller
		return l.open.open(f, dir, unix.O_PATH|unix.O_DIRECTORY)
	}
	if err != nil {
		return &os.PathError{Op: "open_tree", Path: dir, Err: err}
	}
	l.open.fds = append(l.open.fds, fd)
	return l.open.give(f, fd)
}

// channels makes the pipe and the socket over which parent and child meet.
func (l *launch) channels() error {
	f := &l.plan.files
	if f.sync.arg != nil {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			return fmt.Errorf("pipe to the child: %w", err)
		}
		l.open.fds, l.goOn = append(l.open.fds, p[0]), p[1]
		if f.syncPeer.arg != nil {
			f.syncPeer.arg.Value = uint64(p[1])
		}
		if err := l.open.give(&f.sync, p[0]); err != nil {
			return err
		}
	}
	if f.terminal.arg == nil {
		return nil
	}
	s, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket for the terminal: %w", err)
	}
	l.open.fds, l.socket = append(l.open.fds, s[0]), s[1]
	return l.open.give(&f.terminal, s[0])
}

func (l *launch) enterCgroup() (err error) {
	c := &l.plan.config
	if l.plan.execCgroup != nil {
		l.cgroup, err = reopen(l.plan.execCgroup)
		return err
	}
	if c.Cgroup == nil {
		return nil
	}
	l.cgroup, err = c.Cgroup.Apply(l.hold)
	return err
}

// hold gives a process for a cgroup that cannot be made without.
func (l *launch) hold() (pid int, err error) {
	if l.holder == nil {
		if l.holder, err = newHolder(0); err != nil {
			return 0, err
		}
	}
	return l.holder.p.Pid, nil
}

// reopen duplicates a descriptor: every launch closes its own.
func reopen(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	return os.NewFile(uintptr(fd), f.Name()), os.NewSyscallError("fcntl F_DUPFD", err)
}

func (l *launch) clone() (err error) {
	name, traced := "", l.plan.config.Trace != nil
	if traced {
		name = l.plan.child.Clone()
	}
	err = l.timed(name, func() (err error) {
		l.child, err = child.Start(l.plan.child, child.Options{Cgroup: l.cgroup, PidNS: l.pidNS, LowFD: l.plan.lowFD, Trace: traced})
		return err
	})
	if err != nil {
		return err
	}
	l.plan.calls = l.child.Calls()
	l.open.close() // the child has its own: our read end must not outlive it
	l.open.fds = nil
	if l.holder != nil {
		l.holder.end()
		l.holder = nil
	}
	if l.plan.hands {
		if err := l.child.Handed(); err != nil {
			return err
		}
		if l.child.Pid == 0 {
			return l.finish()
		}
	}
	l.pidfd = l.child.Pidfd
	l.signal = int(l.pidfd.Fd())
	if l.plan.config.Cgroup != nil {
		return l.plan.config.Cgroup.Settle()
	}
	return nil
}

// finish waits for execve, or for the error that stood in its way.
func (l *launch) finish() error {
	err := l.child.Started()
	var failed *child.Error
	if errors.As(err, &failed) {
		e := startError(failed.Step, failed.Call, failed.Errno)
		if _, ok := failed.Step.(step.Scheduler); ok && failed.Errno == unix.EPERM && l.plan.cpus() {
			e.reason = fmt.Errorf("%w: process scheduler can't be used together with AllowedCPUs", failed.Errno) // sched_setattr(2), EPERM
		}
		return e
	}
	if err == nil && !l.plan.config.Init { // the reaper of --init executes nothing
		err = l.died()
	}
	if err == nil && l.socket >= 0 {
		l.console, err = receiveTerminal(l.socket)
	}
	return err
}

// cpus tells whether the container is bound to some processors.
func (p *Plan) cpus() bool {
	r := p.config.Spec.Linux.Resources
	return r != nil && r.CPU != nil && r.CPU.Cpus != ""
}

// abandon ends the child and reaps it.
func (l *launch) abandon() error {
	if l.pidfd == nil {
		return nil
	}
	err := unix.PidfdSendSignal(int(l.pidfd.Fd()), unix.SIGKILL, nil, 0)
	if err == unix.ESRCH {
		err = nil
	}
	_, werr := (&Process{Pid: l.child.Pid, Pidfd: l.pidfd}).Wait()
	return errors.Join(err, werr)
}

func (l *launch) close() {
	l.open.close()
	for _, fd := range []int{l.goOn, l.socket} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	for _, f := range []*os.File{l.cgroup, l.pidNS} {
		if f != nil {
			f.Close()
		}
	}
	for _, f := range l.maps {
		f.Close()
	}
	if l.holder != nil {
		l.holder.end()
	}
	if l.child != nil {
		l.child.Release()
	}
}

// trace tells of each call that the child made, and of the one that failed.
func (l *launch) trace(err error) {
	last := time.Now()
	for _, t := range l.child.Trace() {
		var failed error
		if t.Result < 0 && t.Result > -4096 {
			failed = unix.Errno(-t.Result)
		}
		l.plan.config.Trace(t.Call.String(), failed, t.Ended.Add(-t.Took), t.Ended)
		last = t.Ended
	}
	now := time.Now()
	if err != nil {
		l.plan.config.Trace("start", err, now, now)
		return
	}
	// An execve that succeeds does not return, so the table has nothing of it.
	if calls, _ := l.plan.child.Calls(); calls[len(calls)-1].Name == "execve" {
		l.plan.config.Trace(calls[len(calls)-1].String(), nil, last, now)
	}
}

// timed does one step of the caller's.
func (l *launch) timed(step string, do func() error) error {
	if l.plan.config.Trace == nil {
		return do()
	}
	begin := time.Now()
	err := do()
	l.plan.config.Trace(step, err, begin, time.Now())
	return err
}

// receiveTerminal takes the master which the child sent as SCM_RIGHTS (unix(7)).
func receiveTerminal(socket int) (*os.File, error) {
	buf, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("receive the terminal: %w", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return nil, errors.New("receive the terminal: the child sent none")
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.New("receive the terminal: the child sent none")
	}
	// Non-blocking, so that Go's poller can wait for it and Close ends a Read.
	unix.SetNonblock(fds[0], true)
	return os.NewFile(uintptr(fds[0]), "console"), nil
}
