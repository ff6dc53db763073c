package step

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Keyring gives the process a session keyring of its own: it would inherit the
// caller's, with the keys in it (session-keyring(7)). All processes of a
// container share the one of this name. A kernel without keyrings says ENOSYS, a
// filter around berth EPERM, an exhausted quota EDQUOT.
type Keyring struct {
	Name  string
	Label string // SELinux label, "" none
	First bool   // it is new: processes of its user may search it
}

func (s Keyring) String() string { return "a session keyring of its own" }

// Permissions of the keyring: what the kernel gives a new one, and search for
// its user (keyutils.h).
const keyringPerm = 0x3f130000 | 0x00080000

// Calls implements Step.
func (s Keyring) Calls() []Call {
	ring := &Result{Name: "ring"}
	join := newCall("keyctl", unix.SYS_KEYCTL, Flags(unix.KEYCTL_JOIN_SESSION_KEYRING, "KEYCTL_JOIN_SESSION_KEYRING"), Str(s.Name)).to(ring)
	if !s.First {
		return []Call{join.may(0, unix.ENOSYS, unix.EPERM)}
	}
	return []Call{
		join.may(1, unix.ENOSYS, unix.EPERM),
		newCall("keyctl", unix.SYS_KEYCTL, Flags(unix.KEYCTL_SETPERM, "KEYCTL_SETPERM"), From(ring), Flags(keyringPerm, "possessor all, user view|read|link|search")).
			may(0, unix.EACCES),
	}
}

// Seccomp puts a filter on the process and all that come from it (seccomp(2)).
// Program is its classic BPF in native order.
type Seccomp struct {
	Flags    uint64 // SECCOMP_FILTER_FLAG_*
	Program  []byte
	Listener *Result // takes the notification descriptor, with SECCOMP_FILTER_FLAG_NEW_LISTENER
}

func (s Seccomp) String() string {
	return fmt.Sprintf("filter system calls: %d instructions", len(s.Program)/8)
}

// Calls implements Step.
func (s Seccomp) Calls() []Call {
	fprog := make([]byte, 16) // struct sock_fprog
	binary.NativeEndian.PutUint16(fprog, uint16(len(s.Program)/8))
	arg := Arg{To: &Memory{Bytes: fprog, Fixups: map[int]Arg{8: Blob("filter", s.Program)}},
		str: fmt.Sprintf("{len=%d, filter}", len(s.Program)/8)}
	c := newCall("seccomp", unix.SYS_SECCOMP, Flags(unix.SECCOMP_SET_MODE_FILTER, "SECCOMP_SET_MODE_FILTER"),
		Flags(s.Flags, fmt.Sprintf("%#x", s.Flags)), arg)
	if s.Listener != nil {
		c = c.to(s.Listener)
	}
	return []Call{c}
}

// ExecLabel sets the security label that execve gives the process: a file below
// /proc/self/attr, of the host's /proc while that is still there. In front stands
// what AppArmor wants: "exec ".
type ExecLabel struct{ File, Value string }

func (s ExecLabel) String() string { return "label of the program: " + s.Value }

// Calls implements Step.
func (s ExecLabel) Calls() []Call { return WriteFile{s.File, s.Value}.Calls() }

// Personality sets the execution domain (personality(2)).
type Personality struct{ Domain uint64 }

func (s Personality) String() string { return fmt.Sprintf("personality %#x", s.Domain) }

// Calls implements Step.
func (s Personality) Calls() []Call {
	return []Call{newCall("personality", unix.SYS_PERSONALITY, Flags(s.Domain, fmt.Sprintf("%#x", s.Domain)))}
}

// IOPriority sets class and level of the process's disk accesses (ioprio_set(2)).
type IOPriority struct{ Class, Level int }

func (s IOPriority) String() string {
	return fmt.Sprintf("input and output of class %d, level %d", s.Class, s.Level)
}

// Calls implements Step.
func (s IOPriority) Calls() []Call {
	const whoProcess, classShift = 1, 13
	return []Call{newCall("ioprio_set", unix.SYS_IOPRIO_SET, Flags(whoProcess, "IOPRIO_WHO_PROCESS"), Int(0),
		Flags(uint64(s.Class<<classShift|s.Level), fmt.Sprintf("IOPRIO_PRIO_VALUE(%d, %d)", s.Class, s.Level)))}
}

// Scheduler sets policy and parameters (sched_setattr(2)). SCHED_DEADLINE does
// not go with a process bound to some processors.
type Scheduler struct{ Attr unix.SchedAttr }

func (s Scheduler) String() string { return fmt.Sprintf("scheduling policy %d", s.Attr.Policy) }

// Calls implements Step.
func (s Scheduler) Calls() []Call {
	a, b := s.Attr, make([]byte, 0, unix.SizeofSchedAttr)
	ne := binary.NativeEndian
	b = ne.AppendUint32(b, unix.SizeofSchedAttr)
	b = ne.AppendUint32(b, a.Policy)
	b = ne.AppendUint64(b, a.Flags)
	b = ne.AppendUint32(b, uint32(a.Nice))
	b = ne.AppendUint32(b, a.Priority)
	for _, v := range []uint64{a.Runtime, a.Deadline, a.Period} {
		b = ne.AppendUint64(b, v)
	}
	b = ne.AppendUint32(ne.AppendUint32(b, a.Util_min), a.Util_max)
	return []Call{newCall("sched_setattr", unix.SYS_SCHED_SETATTR, Int(0),
		Blob(fmt.Sprintf("{policy=%d, flags=%#x, nice=%d, priority=%d, %d, %d, %d}", a.Policy, a.Flags, a.Nice, a.Priority, a.Runtime, a.Deadline, a.Period), b), Int(0))}
}

// Affinity binds the process to processors, bit n of Mask for number n
// (sched_setaffinity(2)).
type Affinity struct {
	Mask []byte
	Text string
}

func (s Affinity) String() string { return "run on processors " + s.Text }

// Calls implements Step.
func (s Affinity) Calls() []Call {
	return []Call{newCall("sched_setaffinity", unix.SYS_SCHED_SETAFFINITY, Int(0), Int(len(s.Mask)), Blob("["+s.Text+"]", s.Mask))}
}

// MemoryPolicy says from which NUMA nodes memory is taken (set_mempolicy(2)).
type MemoryPolicy struct {
	Mode  uint64 // MPOL_* with its flags
	Nodes []byte // bit n: node n; empty: none
	Text  string
}

func (s MemoryPolicy) String() string { return "memory policy " + s.Text }

// Calls implements Step.
func (s MemoryPolicy) Calls() []Call {
	nodes := Null
	if len(s.Nodes) > 0 {
		nodes = Blob("["+s.Text+"]", s.Nodes)
	}
	return []Call{newCall("set_mempolicy", unix.SYS_SET_MEMPOLICY, Flags(s.Mode, fmt.Sprintf("%#x", s.Mode)), nodes, Int(8*len(s.Nodes)+1))}
}

// TimeNamespace makes a time namespace, sets its clocks and joins it. Offsets
// can be written only as long as nobody is in it (time_namespaces(7), Linux 5.6).
type TimeNamespace struct{ Offsets string } // lines of /proc/PID/timens_offsets

func (s TimeNamespace) String() string { return "a time namespace" }

// Calls implements Step.
func (s TimeNamespace) Calls() []Call {
	ns := &Result{Name: "time"}
	calls := []Call{newCall("unshare", unix.SYS_UNSHARE, Flags(unix.CLONE_NEWTIME, "CLONE_NEWTIME"))}
	if s.Offsets != "" {
		calls = append(calls, WriteFile{"/proc/self/timens_offsets", s.Offsets}.Calls()...)
	}
	return append(calls,
		newCall("openat", unix.SYS_OPENAT, Cwd, Str("/proc/self/ns/time_for_children"), Flags(unix.O_CLOEXEC, "O_RDONLY|O_CLOEXEC")).to(ns),
		newCall("setns", unix.SYS_SETNS, From(ns), Flags(unix.CLONE_NEWTIME, "CLONE_NEWTIME")),
		newCall("close", unix.SYS_CLOSE, From(ns)))
}

// Pause waits for ever (pause(2)).
type Pause struct{}

func (Pause) String() string { return "wait" }

// Calls implements Step. ppoll, for arm64 has no pause.
func (Pause) Calls() []Call {
	return []Call{newCall("ppoll", unix.SYS_PPOLL, Null, Int(0), Null, Null, Int(8))}
}

// Close closes a descriptor that nothing needs any more.
type Close struct{ FD Arg }

func (s Close) String() string { return "close a descriptor" }

// Calls implements Step.
func (s Close) Calls() []Call { return []Call{newCall("close", unix.SYS_CLOSE, s.FD)} }

// Tell writes a byte to the parent, which waits for it: the process has come
// to where the parent has something to do before it may go on.
type Tell struct {
	FD   Arg
	That string
}

func (s Tell) String() string { return "tell the parent: " + s.That }

// Calls implements Step.
func (s Tell) Calls() []Call {
	return []Call{newCall("write", unix.SYS_WRITE, s.FD, Blob("!", []byte("!")), Int(1))}
}
