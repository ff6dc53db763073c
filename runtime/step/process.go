package step

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Signals gives the process the signal mask it should start with: none
// blocked. It was cloned with every signal blocked, so that no handler of the
// parent could run on its stack (handlers are reset by CLONE_CLEAR_SIGHAND,
// Linux 5.5).
type Signals struct{}

func (Signals) String() string { return "unblock all signals" }

// Calls implements Step.
func (Signals) Calls() []Call {
	return []Call{newCall("rt_sigprocmask", unix.SYS_RT_SIGPROCMASK,
		Flags(2, "SIG_SETMASK"), Struct(func([]uint64) string { return "[]" }, 0), Null, Int(8))}
}

// DieBySignal lets a container that waits end by the signals that ask for it. Its
// process is the first of a pid namespace, which takes no signal without a handler
// (pid_namespaces(7)). execve puts all back.
type DieBySignal struct{}

func (DieBySignal) String() string { return "SIGTERM and its like end the waiting container" }

// Calls implements Step.
func (DieBySignal) Calls() []Call {
	const onStack, restorer = 0x08000000, 0x04000000 // SA_ONSTACK, SA_RESTORER (asm/signal.h)
	stack := make([]byte, 24)                        // stack_t
	binary.NativeEndian.PutUint64(stack[16:], 16384)
	calls := []Call{newCall("sigaltstack", unix.SYS_SIGALTSTACK,
		Arg{To: &Memory{Bytes: stack, Fixups: map[int]Arg{0: Blob("stack", make([]byte, 16384))}}, str: "{16384}"}, Null)}
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM} {
		act := make([]byte, 32) // struct kernel_sigaction
		binary.NativeEndian.PutUint64(act[8:], onStack|restorer)
		end := At(SignalHandler, 0)
		calls = append(calls, newCall("rt_sigaction", unix.SYS_RT_SIGACTION, Flags(uint64(sig), unix.SignalName(sig)),
			Arg{To: &Memory{Bytes: act, Fixups: map[int]Arg{0: end, 16: end}}, str: "{end, SA_ONSTACK}"}, Null, Int(8)))
	}
	return calls
}

// Umask sets the file mode creation mask. It is 0 while the root is built, for
// modes are given whole, and the container's own at the end.
type Umask struct{ Mask uint32 }

func (s Umask) String() string { return fmt.Sprintf("create files with the mode mask 0%o", s.Mask) }

// Calls implements Step.
func (s Umask) Calls() []Call { return []Call{newCall("umask", unix.SYS_UMASK, Octal(s.Mask))} }

// NewSession makes the process leader of a session without terminal: it can
// take one of its own, and no signal of the caller's terminal reaches it.
type NewSession struct{}

func (NewSession) String() string { return "leave the caller's session" }

// Calls implements Step.
func (NewSession) Calls() []Call { return []Call{newCall("setsid", unix.SYS_SETSID)} }

// Undumpable keeps other processes from tracing this one until execve
// (prctl(2) PR_SET_DUMPABLE; the caller holds files of the host until then).
type Undumpable struct{}

func (Undumpable) String() string { return "refuse to be traced until execve" }

// Calls implements Step.
func (Undumpable) Calls() []Call { return []Call{dumpable(0)} }

// Dumpable takes it back once no file of the host is left: a caller without
// rights can take a descriptor only from a process that may be traced
// (pidfd_getfd(2)).
type Dumpable struct{}

func (Dumpable) String() string { return "let the caller take a descriptor" }

// Calls implements Step.
func (Dumpable) Calls() []Call { return []Call{dumpable(1)} }

func dumpable(v int) Call {
	return newCall("prctl", unix.SYS_PRCTL, Flags(unix.PR_SET_DUMPABLE, "PR_SET_DUMPABLE"), Int(v))
}

// Dup puts a descriptor of the parent in a place of the new process.
// The copy stays open over execve.
type Dup struct {
	From Arg
	To   int
}

func (s Dup) String() string { return fmt.Sprintf("descriptor %d is %s", s.To, s.From.Text()) }

// Calls implements Step.
func (s Dup) Calls() []Call {
	return []Call{newCall("dup3", unix.SYS_DUP3, s.From, Int(s.To), Int(0))}
}

// CloseFrom closes all descriptors from First on but those of Keep: nothing of the
// host that the parent had open can be reached through /proc/self/fd by what
// comes next (CVE-2024-21626). What is kept is moved to First and the numbers after it,
// and closes itself on execve (close_range(2), Linux 5.9). The numbers it had
// are above those.
type CloseFrom struct {
	First int
	Keep  []Kept
}

// Kept is a descriptor that is needed longer, and where its new number goes.
type Kept struct {
	FD Arg
	As *Result
}

func (s CloseFrom) String() string {
	return fmt.Sprintf("close every descriptor from %d on, but %d that are needed yet", s.First, len(s.Keep))
}

// Calls implements Step.
func (s CloseFrom) Calls() []Call {
	var calls []Call
	for i, k := range s.Keep {
		calls = append(calls, newCall("dup3", unix.SYS_DUP3, k.FD, Int(s.First+i), Flags(unix.O_CLOEXEC, "O_CLOEXEC")).to(k.As))
	}
	return append(calls,
		newCall("close_range", unix.SYS_CLOSE_RANGE, Int(s.First+len(s.Keep)), Flags(uint64(^uint32(0)), "~0U"), Int(0)))
}

// Unshare leaves namespaces after clone3: the cgroup namespace, whose root is
// the cgroup the process is in at that moment (cgroup_namespaces(7)).
type Unshare struct{ Flags uint64 }

func (s Unshare) String() string { return "new namespace: " + CloneNames(s.Flags) }

// Calls implements Step.
func (s Unshare) Calls() []Call {
	return []Call{newCall("unshare", unix.SYS_UNSHARE, Flags(s.Flags, CloneNames(s.Flags)))}
}

// SetNS joins namespaces: FD is a namespace file, or a pidfd (Linux 5.8) whose
// namespaces of the kinds in Flags are joined at once.
type SetNS struct {
	FD    Arg
	Flags uint64
	Of    string // for the reader
}

func (s SetNS) String() string { return "join the namespaces of " + s.Of }

// Calls implements Step.
func (s SetNS) Calls() []Call {
	return []Call{newCall("setns", unix.SYS_SETNS, s.FD, Flags(s.Flags, CloneNames(s.Flags)))}
}

// Handover lets another process go on with the plan, one that Flags and the
// namespaces joined before make: setns(2) into a pid namespace is for children
// only, and a namespace made after joining a user namespace belongs to that. The
// new process is the parent's child (clone3(2) CLONE_PARENT), this one ends.
type Handover struct{ Flags uint64 } // CLONE_NEW*

func (s Handover) String() string { return "go on in a new process" }

// Calls implements Step.
func (s Handover) Calls() []Call {
	flags := s.Flags | unix.CLONE_PARENT
	c := newCall("clone3", unix.SYS_CLONE3,
		Struct(func(w []uint64) string { return "{flags=" + CloneNames(w[0]) + "}" }, flags, 0, 0, 0, 0, 0, 0, 0), Int(64))
	c.Hand = true
	return []Call{c}
}

// Loopback brings up lo, which a new network namespace has down (netdevice(7)).
type Loopback struct{}

func (Loopback) String() string { return "ip link set lo up" }

// Calls implements Step.
func (Loopback) Calls() []Call {
	fd := &Result{Name: "socket"}
	ifreq := make([]byte, 40) // struct ifreq
	copy(ifreq, "lo")
	binary.NativeEndian.PutUint16(ifreq[16:], unix.IFF_UP|unix.IFF_RUNNING)
	return []Call{
		newCall("socket", unix.SYS_SOCKET, Flags(unix.AF_INET, "AF_INET"),
			Flags(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, "SOCK_DGRAM|SOCK_CLOEXEC"), Int(0)).to(fd),
		newCall("ioctl", unix.SYS_IOCTL, From(fd), Flags(unix.SIOCSIFFLAGS, "SIOCSIFFLAGS"), Blob(`{"lo", IFF_UP|IFF_RUNNING}`, ifreq)),
		newCall("close", unix.SYS_CLOSE, From(fd)),
	}
}

// Hostname and Domainname set the names of the new UTS namespace.
type Hostname struct{ Name string }

func (s Hostname) String() string { return "host name " + s.Name }

// Calls implements Step.
func (s Hostname) Calls() []Call {
	return []Call{newCall("sethostname", unix.SYS_SETHOSTNAME, Str(s.Name), Int(len(s.Name)))}
}

// Domainname sets the NIS domain name (uts_namespaces(7)).
type Domainname struct{ Name string }

func (s Domainname) String() string { return "domain name " + s.Name }

// Calls implements Step.
func (s Domainname) Calls() []Call {
	return []Call{newCall("setdomainname", unix.SYS_SETDOMAINNAME, Str(s.Name), Int(len(s.Name)))}
}

// WriteFile writes a value into a file of the kernel, such as a sysctl. It goes
// by the host's /proc, before pivot_root: what is written is decided by the
// namespaces of the writer.
type WriteFile struct{ Path, Value string }

func (s WriteFile) String() string { return fmt.Sprintf("echo %s > %s", s.Value, s.Path) }

// Calls implements Step.
func (s WriteFile) Calls() []Call {
	fd := &Result{Name: "file"}
	return []Call{
		newCall("openat", unix.SYS_OPENAT, Cwd, Str(s.Path), Flags(unix.O_WRONLY|unix.O_CLOEXEC, "O_WRONLY|O_CLOEXEC")).to(fd),
		newCall("write", unix.SYS_WRITE, From(fd), Str(s.Value), Int(len(s.Value))),
		newCall("close", unix.SYS_CLOSE, From(fd)),
	}
}

// Rlimit sets one resource limit of the process (getrlimit(2)).
type Rlimit struct {
	Name       string // RLIMIT_NOFILE
	Resource   int
	Soft, Hard uint64
}

func (s Rlimit) String() string {
	return fmt.Sprintf("limit %s to %d, at most %d", s.Name, s.Soft, s.Hard)
}

// Calls implements Step.
func (s Rlimit) Calls() []Call {
	return []Call{newCall("prlimit64", unix.SYS_PRLIMIT64, Int(0), Flags(uint64(s.Resource), s.Name),
		Struct(func(w []uint64) string { return fmt.Sprintf("{%d, %d}", w[0], w[1]) }, s.Soft, s.Hard), Null)}
}

// Await reads one byte which the parent writes when its part is done, such as
// the network. It stands as late as possible: both work side by side till then.
type Await struct {
	FD   Arg
	Peer Arg // the parent's end, of which the child has a copy: open, it would hide the parent's death
	For  string

	Again bool // Peer is closed already
}

func (s Await) String() string { return "wait for the parent: " + s.For }

// Calls implements Step.
func (s Await) Calls() []Call {
	c := newCall("read", unix.SYS_READ, s.FD, Blob("buf", make([]byte, 8)), Int(1))
	c.NonZero = true
	if s.Again {
		return []Call{c}
	}
	return []Call{newCall("close", unix.SYS_CLOSE, s.Peer), c}
}

// AwaitStart is where a created container waits for `start`. Opening a FIFO for
// writing blocks until somebody opens it for reading (fifo(7)); from then on an
// error is told to that reader, and execve closes it.
type AwaitStart struct {
	Ready Arg     // the error pipe of create: closed when all is built
	Dir   Arg     // directory that holds the FIFO
	Name  string  // of the FIFO
	Err   *Result // takes the FIFO's descriptor
}

func (s AwaitStart) String() string { return "wait until start opens " + s.Name }

// Calls implements Step.
func (s AwaitStart) Calls() []Call {
	return []Call{
		newCall("close", unix.SYS_CLOSE, s.Ready),
		newCall("openat", unix.SYS_OPENAT, s.Dir, Str(s.Name), Flags(unix.O_WRONLY|unix.O_CLOEXEC, "O_WRONLY|O_CLOEXEC")).to(s.Err),
		// The program's own path may lead through /proc/self/fd (CVE-2024-21626).
		newCall("close", unix.SYS_CLOSE, s.Dir),
	}
}

// LookPath finds out whether the program can be executed, before start asks for
// it: create is to fail if it cannot (faccessat2(2) with AT_EACCESS, Linux 5.8:
// by the capabilities that the process has now).
type LookPath struct {
	Name     string
	Path     []string // directories; not used for a name with a slash
	Filtered bool     // a seccomp filter is in force, which may refuse faccessat2
}

func (s LookPath) String() string { return "look for " + s.Name }

// Calls implements Step. Profiles older than faccessat2 refuse it. Behind such
// a one faccessat is asked, which goes by the real ids: the same by now, but it
// leaves ambient capabilities aside. Where that is refused too, it is left to
// execve to find out.
func (s LookPath) Calls() []Call {
	files := candidates(s.Name, s.Path)
	access := func(f string, mode Arg) Call {
		return newCall("faccessat2", unix.SYS_FACCESSAT2, Cwd, Str(f), mode, Flags(unix.AT_EACCESS, "AT_EACCESS"))
	}
	if !s.Filtered {
		return look(files, access, 0)
	}
	old := func(f string, mode Arg) Call {
		return newCall("faccessat", unix.SYS_FACCESSAT, Cwd, Str(f), mode)
	}
	n := 2 * len(files)
	refused := func(a func(string, Arg) Call) Call { // / is always there
		return a("/", Flags(0, "F_OK")).may(n, unix.EPERM, unix.ENOSYS, unix.EACCES)
	}
	calls := append([]Call{refused(access)}, look(files, access, n+1)...)
	return append(append(calls, refused(old)), look(files, old, 0)...)
}

// look: as in Exec all candidates are tried twice, the second time for the
// error. Once one is found, rest more calls are passed over.
func look(files []string, access func(string, Arg) Call, rest int) []Call {
	var calls []Call
	for pass := range 2 {
		for i, f := range files {
			c := access(f, Flags(unix.X_OK, "X_OK"))
			c.Then = 2*len(files) - len(calls) - 1 + rest
			switch {
			case pass == 0:
				c.May = []unix.Errno{unix.ENOENT, unix.ENOTDIR, unix.EACCES}
			case i < len(files)-1:
				c.May = []unix.Errno{unix.ENOENT, unix.ENOTDIR}
			}
			calls = append(calls, c)
		}
	}
	return calls
}

// candidates are the files that execvp(3) would try.
func candidates(name string, path []string) []string {
	if strings.Contains(name, "/") || len(path) == 0 {
		return []string{name}
	}
	files := make([]string, len(path))
	for i, dir := range path {
		if dir == "" {
			dir = "."
		}
		files[i] = strings.TrimSuffix(dir, "/") + "/" + name
	}
	return files
}

// Exec ends the plan: the process becomes the container's program. A name
// without slash is looked for in Path as execvp(3) does.
type Exec struct {
	File      string // the program, if it is not Args[0]
	Args, Env []string
	Path      []string // directories of the container's PATH
}

func (s Exec) String() string { return "become " + strings.Join(s.Args, " ") }

// Calls implements Step. All candidates are tried twice. The second time is for
// the error: of the first file that is there, which may not be executed or lacks
// its interpreter, and not that of the last candidate.
func (s Exec) Calls() []Call {
	argv, env := Strings(s.Args), Strings(s.Env)
	env.show = func(Arg) string { return fmt.Sprintf("[%d variables]", len(s.Env)) }
	call := func(file string) Call {
		return newCall("execve", unix.SYS_EXECVE, Str(file), argv, env)
	}
	there := func(file string) Call {
		return newCall("faccessat", unix.SYS_FACCESSAT, Cwd, Str(file), Flags(unix.F_OK, "F_OK"))
	}
	name := s.Args[0]
	if s.File != "" {
		name = s.File
	}
	files := candidates(name, s.Path)
	last := there(files[len(files)-1]).may(0, unix.EPERM, unix.ENOSYS) // a filter, and not of the file
	if len(files) == 1 {
		return []Call{call(files[0]).may(0, unix.ENOENT), last, call(files[0])}
	}
	var first, second []Call
	for _, file := range files {
		first = append(first, call(file).may(0, unix.ENOENT, unix.ENOTDIR, unix.EACCES))
		second = append(second, there(file).may(1, unix.ENOENT, unix.ENOTDIR, unix.EPERM), call(file))
	}
	second[len(second)-2] = last // none is there
	return append(first, second...)
}

// Reaper makes process 1 a reaper (--init): it forks, and in the child the plan
// goes on. The reaper itself stays in the interpreter's few kilobytes: it passes
// signals on to the child, reaps orphans, and ends with the child's status.
type Reaper struct{ Terminal bool }

func (Reaper) String() string { return "process 1 reaps orphans, its child goes on" }

// Calls implements Step. All signals are blocked here, so those that come
// before the child's program runs are not lost; a child with a terminal is its
// foreground process group, else Ctrl-C would reach it twice.
func (s Reaper) Calls() []Call {
	fork := newCall("clone", unix.SYS_CLONE, Flags(uint64(unix.SIGCHLD), "SIGCHLD"), Null, Null, Null, Null)
	fork.Reap = true
	calls := []Call{fork, newCall("setpgid", unix.SYS_SETPGID, Int(0), Int(0))}
	if s.Terminal {
		pid := &Result{Name: "pid"}
		calls = append(calls,
			newCall("getpid", unix.SYS_GETPID).to(pid),
			newCall("ioctl", unix.SYS_IOCTL, Int(0), Flags(unix.TIOCSPGRP, "TIOCSPGRP"),
				Arg{To: &Memory{Bytes: make([]byte, 4), Hole: &Hole{0, pid}}, str: "[$pid]"}))
	}
	return calls
}

// NoNewPrivs keeps execve from granting privileges, for this process and all
// that come from it (prctl(2), Linux 3.5).
type NoNewPrivs struct{}

func (NoNewPrivs) String() string { return "no new privileges" }

// Calls implements Step.
func (NoNewPrivs) Calls() []Call {
	return []Call{newCall("prctl", unix.SYS_PRCTL, Flags(unix.PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS"), Int(1))}
}

// Credentials sets groups and ids of the process (credentials(7)). Groups come
// first, for the right to change them goes with the user id.
type Credentials struct {
	UID, GID uint32
	Groups   []uint32
	// NoSetgroups: the user namespace forbids it (user_namespaces(7), "setgroups").
	NoSetgroups bool
	// Unsure: it may forbid it; then the groups stay, which are the caller's.
	Unsure     bool
	GroupsStay bool // only to become root of a new user namespace

	KeepCaps bool // the permitted set survives the change of user, for Capabilities
}

func (s Credentials) String() string {
	return fmt.Sprintf("user %d, group %d, supplementary groups %v", s.UID, s.GID, s.Groups)
}

// Calls implements Step.
func (s Credentials) Calls() []Call {
	gid, uid := Int(int(s.GID)), Int(int(s.UID))
	ids := []Call{
		newCall("setresgid", unix.SYS_SETRESGID, gid, gid, gid),
		newCall("setresuid", unix.SYS_SETRESUID, uid, uid, uid)}
	if s.GroupsStay {
		return ids
	}
	var b []byte
	for _, g := range s.Groups {
		b = binary.NativeEndian.AppendUint32(b, g)
	}
	groups := Blob(strings.ReplaceAll(fmt.Sprint(s.Groups), " ", ", "), b)
	if len(s.Groups) == 0 {
		groups = Null
	}
	var calls []Call
	if s.KeepCaps {
		calls = append(calls, newCall("prctl", unix.SYS_PRCTL, Flags(unix.PR_SET_KEEPCAPS, "PR_SET_KEEPCAPS"), Int(1)))
	}
	if !s.NoSetgroups {
		set := newCall("setgroups", unix.SYS_SETGROUPS, Int(len(s.Groups)), groups)
		if s.Unsure {
			set = set.may(0, unix.EPERM)
		}
		calls = append(calls, set)
	}
	return append(calls, ids...)
}
