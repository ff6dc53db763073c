package engine

import (
	"context"
	"fmt"
	"os"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/seccomp"
	"github.com/berth-run/berth/runtime/step"
)

// ExecConfig is one more process for a running container.
type ExecConfig struct {
	ID      string   // of the container: its processes share a keyring of that name
	Pid     int      // of the container's first process
	Target  *os.File // pidfd of that process, the caller's to close; nil: Pid is believed
	Process *specs.Process
	Linux   *specs.Linux // personality and memory policy of the container; may be nil
	Cgroup  *os.File     // the container's cgroup directory; nil: the caller's cgroup

	Stdin, Stdout, Stderr *os.File // as in Config

	File         string // the program, if it is not Process.Args[0]
	Seccomp      *seccomp.Filter
	Resctrl      Resctrl // as in Config
	Notify       func(pid int, listener *os.File) error
	PlainLF      bool
	NoNewKeyring bool
	PreserveFDs  int
	NoSetgroups  bool
	Labels       Labels
}

// DecideExec lays down the steps of a process that joins a container: the same
// interpreter, another plan, which begins with setns where the first began with
// clone3's flags.
func DecideExec(c ExecConfig) (*Plan, error) {
	linux := &specs.Linux{}
	if c.Linux != nil {
		linux = &specs.Linux{Personality: c.Linux.Personality, MemoryPolicy: c.Linux.MemoryPolicy}
	}
	spec := &specs.Spec{Process: c.Process, Linux: linux}
	cfg := Config{ID: c.ID, Spec: spec, Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr, File: c.File, PlainLF: c.PlainLF, Seccomp: c.Seccomp, Notify: c.Notify,
		Resctrl: c.Resctrl, NoNewKeyring: c.NoNewKeyring, PreserveFDs: c.PreserveFDs, NoSetgroups: c.NoSetgroups, Labels: c.Labels}
	if err := check(&cfg); err != nil {
		return nil, err
	}
	d := &decision{Plan: &Plan{config: cfg, child: &step.Plan{}, lowFD: max(lowFD, firstFD+c.PreserveFDs+8)}, spec: spec, facts: newHost(&cfg)}
	for _, part := range []func() error{
		d.leaveParent, func() error { return d.joinAll(c) }, d.limits, d.finalAffinity, d.parentsShare,
		d.closeAll, d.identity, d.program,
	} {
		if err := part(); err != nil {
			return nil, err
		}
	}
	d.target, d.execCgroup = c.Target, c.Cgroup
	return d.Plan, nil
}

// joinAll: what goes by the host's paths comes first.
func (d *decision) joinAll(c ExecConfig) error {
	// Undumpable: what runs in the container must not look into a process that
	// still holds the caller's files. (One that has CAP_SYS_PTRACE over it may.)
	d.add(step.Undumpable{})
	if adj := c.Process.OOMScoreAdj; adj != nil {
		d.add(step.WriteFile{Path: "/proc/self/oom_score_adj", Value: fmt.Sprint(*adj)})
	}
	if a := c.Process.ExecCPUAffinity; a != nil {
		s, err := affinity(a.Initial)
		if err != nil {
			return err
		}
		d.add(s...)
	}
	if c.Labels.Exec != "" {
		d.add(step.ExecLabel{File: c.Labels.ExecFile, Value: c.Labels.Exec})
	}
	if !c.NoNewKeyring {
		d.add(step.Keyring{Name: "_ses." + c.ID})
	}
	flags, err := different(c.Pid)
	if err != nil {
		return err
	}
	user := flags&unix.CLONE_NEWUSER != 0
	if flags&unix.CLONE_NEWPID != 0 && !user {
		d.pidNS = "/proc/" + strconv.Itoa(c.Pid) + "/ns/pid"
		flags &^= unix.CLONE_NEWPID
	}
	if flags != 0 {
		d.files.ns = []file{{flag: flags}}
		pidfd, of := at("pidfd", &d.files.ns[0]), "process "+strconv.Itoa(c.Pid)
		if user && d.bare {
			d.add(setNS{pidfd, unix.CLONE_NEWUSER, of})
			d.hide()
			flags &^= unix.CLONE_NEWUSER
		}
		if flags != 0 {
			d.add(setNS{pidfd, flags, of})
		}
	}
	if d.bare {
		d.hide()
	}
	if user {
		d.hands = true // only a child is in the pid namespace
		d.add(step.Handover{}, step.NewSession{}, step.Credentials{GroupsStay: true}, step.Undumpable{})
	}
	if c.Process.Terminal {
		d.add(d.terminal(step.Terminal{}))
	}
	return nil
}

func (d *decision) finalAffinity() error {
	a := d.spec.Process.ExecCPUAffinity
	if a == nil {
		return nil
	}
	s, err := affinity(a.Final)
	d.add(s...)
	return err
}

// Exec starts a process in a running container and returns when its program
// has been executed.
func Exec(ctx context.Context, c ExecConfig) (*Process, error) {
	return ExecWarn(ctx, c, func(string) {})
}

// ExecWarn is Exec, and warn is told of what is odd and no error.
func ExecWarn(ctx context.Context, c ExecConfig, warn func(text string)) (*Process, error) {
	if c.Target == nil {
		pidfd, err := unix.PidfdOpen(c.Pid, 0)
		if err != nil {
			return nil, fmt.Errorf("process %d of the container: %w", c.Pid, err)
		}
		c.Target = os.NewFile(uintptr(pidfd), "pidfd")
		defer c.Target.Close()
	}
	p, err := DecideExec(c)
	if err != nil {
		return nil, err
	}
	for _, w := range p.Warnings() {
		warn(w)
	}
	// The namespaces were looked at by number: was it this process until now?
	if err := unix.PidfdSendSignal(int(c.Target.Fd()), 0, nil, 0); err != nil {
		return nil, fmt.Errorf("process %d of the container: %w", c.Pid, err)
	}
	return p.Start(ctx)
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
	return flags, nil
}
