package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/child"
	"github.com/berth-run/berth/runtime/step"
)

// ExecConfig is one more process for a running container.
type ExecConfig struct {
	Pid     int // of the container's first process
	Process *specs.Process
	Cgroup  *os.File // the container's cgroup directory; nil: the caller's cgroup

	Stdin, Stdout, Stderr *os.File // as in Config
}

// DecideExec lays down the steps of a process that joins a container: the same
// interpreter, another plan, which begins with setns where the first began with
// clone3's flags.
func DecideExec(c ExecConfig) (*Plan, error) {
	spec := &specs.Spec{Process: c.Process, Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}}}}
	cfg := Config{Spec: spec, Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr}
	if err := check(&cfg); err != nil {
		return nil, err
	}
	d := &decision{Plan: &Plan{config: cfg, child: &step.Plan{}}, spec: spec}
	// Undumpable: what runs in the container must not look into a process that
	// still holds the caller's files.
	if err := d.leaveParent(); err != nil {
		return nil, err
	}
	d.add(step.Undumpable{})
	flags, err := different(c.Pid)
	if err != nil {
		return nil, err
	}
	if adj := c.Process.OOMScoreAdj; adj != nil {
		d.add(step.WriteFile{Path: "/proc/self/oom_score_adj", Value: fmt.Sprint(*adj)})
	}
	if flags&unix.CLONE_NEWPID != 0 {
		d.pidNS = "/proc/" + strconv.Itoa(c.Pid) + "/ns/pid"
	}
	if flags &^= unix.CLONE_NEWPID; flags != 0 {
		d.files.ns = []file{{flag: flags}}
		d.add(setNS{at("pidfd", &d.files.ns[0]), flags, "process " + strconv.Itoa(c.Pid)})
	}
	if c.Process.Terminal {
		t := terminal{step.Terminal{UID: c.Process.User.UID}, at("parent's socket", &d.files.terminal)}
		if s := c.Process.ConsoleSize; s != nil {
			t.Rows, t.Columns = uint16(s.Height), uint16(s.Width)
		}
		d.add(t)
	}
	limits, err := rlimits(c.Process.Rlimits)
	if err != nil {
		return nil, err
	}
	d.add(limits...)
	d.add(step.CloseFrom{First: firstFD, Err: child.ErrFD})
	if err := d.identity(); err != nil {
		return nil, err
	}
	d.add(programSteps(c.Process)...)
	return d.Plan, nil
}

// Exec starts a process in a running container and returns when its program
// has been executed.
func Exec(ctx context.Context, c ExecConfig) (*Process, error) {
	p, err := DecideExec(c)
	if err != nil {
		return nil, err
	}
	pidfd, err := unix.PidfdOpen(c.Pid, 0)
	if err != nil {
		return nil, fmt.Errorf("process %d of the container: %w", c.Pid, err)
	}
	target := os.NewFile(uintptr(pidfd), "pidfd")
	defer target.Close()
	p.target, p.execCgroup = target, c.Cgroup
	return p.start(ctx, func(*launch) error { return nil })
}

// namespaceFiles are the names below /proc/PID/ns.
var namespaceFiles = [...]struct {
	name string
	flag uint64
}{{"mnt", unix.CLONE_NEWNS}, {"pid", unix.CLONE_NEWPID}, {"net", unix.CLONE_NEWNET}, {"ipc", unix.CLONE_NEWIPC},
	{"uts", unix.CLONE_NEWUTS}, {"cgroup", unix.CLONE_NEWCGROUP}, {"user", unix.CLONE_NEWUSER}, {"time", unix.CLONE_NEWTIME}}

// different tells in which namespaces a process is and the caller is not.
func different(pid int) (flags uint64, err error) {
	for _, n := range namespaceFiles {
		var own, its unix.Stat_t
		if err := unix.Stat("/proc/self/ns/"+n.name, &own); err != nil {
			continue // a kind this kernel does not have
		}
		if err := unix.Stat("/proc/"+strconv.Itoa(pid)+"/ns/"+n.name, &its); err != nil {
			return 0, fmt.Errorf("namespaces of process %d: %w", pid, err)
		}
		if own.Ino != its.Ino || own.Dev != its.Dev {
			flags |= n.flag
		}
	}
	if flags&unix.CLONE_NEWNS == 0 {
		return 0, errors.New("the process is not in a container: it shares the caller's mount namespace")
	}
	return flags, nil
}
