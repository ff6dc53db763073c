package child

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/seccomp"
	"github.com/berth-run/berth/runtime/step"
)

func TestProcessStepsAlone(t *testing.T) { testAlone(t, processCases) }

// one is a case of the step alone.
func one(s step.Step) func(*bench) []step.Step {
	return func(*bench) []step.Step { return []step.Step{s} }
}

// cpu is the first processor that may be used; with only one there is nothing to choose.
func cpu() (first int, several bool) {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return 0, false
	}
	for first = 0; !set.IsSet(first); {
		first++
	}
	return first, set.Count() > 1
}

var processCases = []alone{
	{of: step.Signals{}, steps: one(step.Signals{}), sh: "grep SigBlk /proc/self/status", want: "SigBlk:\t0000000000000000"},
	{of: step.Umask{}, steps: one(step.Umask{Mask: 0o27}), sh: "umask", want: "0027"},
	{of: step.NewSession{}, steps: one(step.NewSession{}), sh: "set -- $(cat /proc/$$/stat); [ $6 = $1 ] && echo leads", want: "leads"},
	{of: step.NewSession{}, what: "of one that leads", steps: func(*bench) []step.Step { return []step.Step{step.NewSession{}, step.NewSession{}} },
		call: "setsid", errno: unix.EPERM},
	{of: step.Undumpable{}, steps: one(step.Undumpable{}), look: func(b *bench) {
		// of another process of root's it can be seen by no file of /proc
		if got := dumpable(b, step.Undumpable{}); got != 0 {
			b.Errorf("PR_GET_DUMPABLE is %d", got)
		}
		if got := dumpable(b, step.Umask{}); got == 0 {
			b.Error("a process is not dumpable before the step either")
		}
	}},
	{of: step.Dumpable{}, steps: one(step.Dumpable{}), look: func(b *bench) {
		if got := dumpable(b, step.Undumpable{}, step.Dumpable{}); got != 1 {
			b.Errorf("PR_GET_DUMPABLE is %d", got)
		}
	}},
	{of: step.Dup{}, given: func(b *bench) { b.write("f", "text"); b.fd = b.open(b.dir+"/f", unix.O_RDONLY|unix.O_CLOEXEC) },
		steps: func(b *bench) []step.Step { return []step.Step{step.Dup{From: step.Int(b.fd), To: b.fd + 100}} }, sh: "cat <&$(($2 + 100))", want: "text"},
	{of: step.Dup{}, what: "of none", steps: one(step.Dup{From: step.Int(99999), To: 9}), call: "dup3", errno: unix.EBADF},
	{of: step.CloseFrom{}, given: func(b *bench) { b.fd = b.open(b.dir, unix.O_RDONLY) }, steps: func(b *bench) []step.Step {
		return []step.Step{step.CloseFrom{First: 3, Keep: []step.Kept{{FD: step.From(ErrFD), As: ErrFD}, {FD: step.Int(b.fd), As: &b.kept}}}}
	}, look: func(b *bench) {
		b.eq(b.list("fd"), "0 1 2 3 4")
		b.eq(b.proc("fd/4"), b.dir)
		b.eq(b.result(&b.kept), 4)
		_, info, _ := strings.Cut(b.proc("fdinfo/4"), "flags:\t")
		if flags, err := strconv.ParseInt(info[:strings.IndexByte(info, '\n')], 8, 64); flags&unix.O_CLOEXEC == 0 || err != nil {
			b.Errorf("the program would have descriptor 4: flags %#o, %v", flags, err)
		}
	}},
	{of: step.Close{}, given: func(b *bench) { b.fd = b.open(b.dir, unix.O_RDONLY) },
		steps: func(b *bench) []step.Step { return []step.Step{step.Close{FD: step.Int(b.fd)}} }, sh: "[ -e /proc/$$/fd/$2 ] || echo closed", want: "closed"},
	{of: step.Close{}, what: "of none", steps: one(step.Close{FD: step.Int(99999)}), call: "close", errno: unix.EBADF},
	{of: step.Rlimit{}, steps: one(step.Rlimit{Name: "RLIMIT_NOFILE", Resource: unix.RLIMIT_NOFILE, Soft: 77, Hard: 99}),
		sh: "ulimit -Sn; ulimit -Hn", want: "77\n99"},
	{of: step.Rlimit{}, what: "above the hard one", steps: one(step.Rlimit{Name: "RLIMIT_CORE", Resource: unix.RLIMIT_CORE, Soft: 2, Hard: 1}),
		call: "prlimit64", errno: unix.EINVAL},
	{of: step.LookPath{}, steps: one(step.LookPath{Name: "sh", Path: []string{"/nowhere", "/usr/bin", "/bin"}}), sh: "echo goes on", want: "goes on"},
	{of: step.LookPath{}, what: "behind a filter", steps: one(step.LookPath{Name: "sh", Path: []string{"/nowhere", "/usr/bin", "/bin"}, Filtered: true}), sh: "echo goes on", want: "goes on"},
	{of: step.LookPath{}, what: "of none behind a filter", steps: one(step.LookPath{Name: "no-such-program", Path: []string{"/usr/bin"}, Filtered: true}), call: "faccessat2", errno: unix.ENOENT},
	{of: step.LookPath{}, what: "of none", steps: one(step.LookPath{Name: "no-such-program", Path: []string{"/usr/bin"}}), call: "faccessat2", errno: unix.ENOENT},
	{of: step.LookPath{}, what: "of a file without x", given: files("prog", "x"),
		steps: func(b *bench) []step.Step {
			return []step.Step{step.LookPath{Name: "prog", Path: []string{b.dir, "/usr"}}}
		}, call: "faccessat2", errno: unix.EACCES},
	{of: step.Personality{}, steps: one(step.Personality{Domain: 8}), sh: "cat /proc/self/personality", want: "00000008"},
	{of: step.IOPriority{}, steps: one(step.IOPriority{Class: 2, Level: 6}), look: func(b *bench) {
		const whoProcess = 1
		got, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, whoProcess, uintptr(b.p.Pid), 0)
		b.eq(errno, unix.Errno(0))
		b.eq(got, uintptr(2<<13|6))
	}},
	{of: step.IOPriority{}, what: "of no class", steps: one(step.IOPriority{Class: 7}), call: "ioprio_set", errno: unix.EINVAL},
	{of: step.Scheduler{}, steps: one(step.Scheduler{Attr: unix.SchedAttr{Policy: unix.SCHED_BATCH, Nice: 5}}), look: func(b *bench) {
		got, err := unix.SchedGetAttr(b.p.Pid, 0)
		if err != nil || got.Policy != unix.SCHED_BATCH || got.Nice != 5 {
			b.Errorf("%+v, %v", got, err)
		}
	}},
	{of: step.Scheduler{}, what: "of no policy", steps: one(step.Scheduler{Attr: unix.SchedAttr{Policy: 99}}), call: "sched_setattr", errno: unix.EINVAL},
	{of: step.Affinity{}, needs: func() string {
		if _, several := cpu(); !several {
			return "there is one processor only: nothing to choose"
		}
		return ""
	}, steps: func(b *bench) []step.Step {
		b.fd, _ = cpu()
		mask := make([]byte, 128)
		mask[b.fd/8] = 1 << (b.fd % 8)
		return []step.Step{step.Affinity{Mask: mask, Text: "one"}}
	}, sh: `set -- $(grep Cpus_allowed_list /proc/self/status) $2; [ $2 = $3 ] && echo bound`, want: "bound"},
	{of: step.Affinity{}, what: "to none", steps: one(step.Affinity{Mask: make([]byte, 8)}), call: "sched_setaffinity", errno: unix.EINVAL},
	{of: step.MemoryPolicy{}, needs: func() string {
		if _, _, errno := unix.Syscall6(unix.SYS_SET_MEMPOLICY, 0, 0, 0, 0, 0, 0); errno == unix.ENOSYS {
			return "this kernel has no NUMA (CONFIG_NUMA)"
		}
		return ""
	}, steps: one(step.MemoryPolicy{Mode: 2, Nodes: []byte{1}, Text: "bind:0"}), sh: "cut -d' ' -f2 /proc/$$/numa_maps | sort -u", want: "bind:0"},
	{of: step.Keyring{}, needs: noKeys, steps: one(step.Keyring{Name: "_ses.berth-alone", First: true}),
		sh: "grep -c '3f1b0000 .* _ses.berth-alone' /proc/keys", want: "1"},
	{of: step.Keyring{}, what: "of another process", needs: noKeys, steps: one(step.Keyring{Name: "_ses.berth-alone2"}),
		sh: "grep -c '3f130000 .* _ses.berth-alone2' /proc/keys", want: "1"},
	{of: step.Seccomp{}, steps: func(b *bench) []step.Step { return []step.Step{step.Seccomp{Program: refuse(b.T, "mkdirat", "mkdir")}} },
		sh: "mkdir $1/d 2>/dev/null || echo refused; grep Seccomp: /proc/self/status", want: "refused\nSeccomp:\t2"},
	{of: step.Seccomp{}, what: "with a listener", steps: func(b *bench) []step.Step {
		return []step.Step{step.Seccomp{Flags: unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, Program: refuse(b.T, "mkdir"), Listener: &b.kept}}
	}, look: func(b *bench) { b.eq(b.proc(fmt.Sprint("fd/", b.result(&b.kept))), "anon_inode:seccomp notify") }},
	{of: step.Seccomp{}, what: "of no program", steps: one(step.Seccomp{Program: []byte{0, 0, 0, 0, 0, 0, 0, 0}}), call: "seccomp", errno: unix.EINVAL},
	{of: step.ExecLabel{}, given: files("label", "none yet"), steps: func(b *bench) []step.Step {
		// not every host has a security module: the file of one, of our own
		return []step.Step{step.ExecLabel{File: b.dir + "/label", Value: "exec unconfined"}}
	}, sh: "cat $1/label", want: "exec unconfined"},
	{of: step.ExecLabel{}, what: "without such a module", needs: func() string {
		if os.WriteFile("/proc/thread-self/attr/exec", []byte("exec unconfined"), 0) == nil {
			return "this kernel has AppArmor, which takes the label"
		}
		return ""
	}, steps: one(step.ExecLabel{File: "/proc/self/attr/exec", Value: "exec unconfined"}), call: "write", errno: unix.EINVAL},
	{of: step.WriteFile{}, clone: unix.CLONE_NEWIPC, steps: one(step.WriteFile{Path: "/proc/sys/kernel/msgmax", Value: "4242"}), sh: "cat /proc/sys/kernel/msgmax", want: "4242"},
	{of: step.WriteFile{}, what: "of a value that is none", clone: unix.CLONE_NEWIPC,
		steps: one(step.WriteFile{Path: "/proc/sys/kernel/msgmax", Value: "many"}), call: "write", errno: unix.EINVAL},
	{of: step.WriteFile{}, what: "of none", steps: one(step.WriteFile{Path: "/proc/sys/kernel/nosuch", Value: "1"}), call: "openat", errno: unix.ENOENT},
}

func (b *bench) list(dir string) string {
	b.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", b.p.Pid, dir))
	if err != nil {
		b.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// dumpable is what prctl(2) tells a process of itself after a step.
func dumpable(b *bench, s ...step.Step) int {
	b.Helper()
	got := &step.Result{Name: "dumpable"}
	plan := &step.Plan{}
	plan.Add(s...)
	plan.Add(raw{{Name: "prctl", Nr: unix.SYS_PRCTL, Args: []step.Arg{step.Int(unix.PR_GET_DUMPABLE)}, Out: got}},
		step.Tell{FD: step.From(ErrFD), That: "done"}, step.Pause{})
	b.start(plan)
	if reached, err := b.p.Reached(); !reached {
		b.Fatal(err)
	}
	return b.result(got)
}

func noKeys() string {
	if _, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false); err == unix.ENOSYS || err == unix.EPERM {
		return "this kernel has no keyrings, or a filter around the test forbids them: " + err.Error()
	}
	if _, err := os.Stat("/proc/keys"); err != nil {
		return "the kernel does not show keys: " + err.Error()
	}
	return ""
}

func refuse(t *testing.T, calls ...string) []byte {
	t.Helper()
	filter, err := seccomp.Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow,
		Syscalls: []specs.LinuxSyscall{{Names: calls, Action: specs.ActErrno}}}, runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	return filter.Bytes()
}
