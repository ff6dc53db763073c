package seccomp

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// install puts a filter on this thread. The kernel checks the program.
func install(f *Filter) (listener int, err error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, err
	}
	code := f.Bytes()
	prog := unix.SockFprog{Len: uint16(len(code) / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(&code[0]))}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(f.Flags), uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(code)
	if errno != 0 {
		return -1, os.NewSyscallError("seccomp", errno)
	}
	return int(fd), nil
}

// filtered runs a function on a thread with the filter of a profile. The
// thread ends with it. The function must not call t.Fatal.
func filtered(t *testing.T, p *specs.LinuxSeccomp, do func(f *Filter, listener int)) {
	t.Helper()
	f, err := Compile(p, runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is not used again
		listener, err := install(f)
		if err == nil {
			do(f, listener)
		}
		done <- err
	}()
	if err := <-done; errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) && len(SupportedFlags()) == 0 {
		t.Skip("this kernel has no seccomp filters: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
}

func call(nr uint32, args ...uintptr) unix.Errno {
	a := append(args, make([]uintptr, 6)...)
	_, _, errno := unix.RawSyscall6(uintptr(nr), a[0], a[1], a[2], a[3], a[4], a[5])
	return errno
}

// native is the number of a call here, or some number that is none.
func native(t *testing.T, name string) uint32 {
	chosen, err := chooseArchs(nil, runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	if s := chosen[0].slot(findSyscall(name, 1)); s >= 0 {
		return chosen[0].number(s)
	}
	return 5000
}

// TestKernelDocker asks the kernel for every system call that docker's profile
// refuses, and sees the errno that the program returns. (It is safe: none of
// them is executed.)
func TestKernelDocker(t *testing.T) {
	p := docker(t)
	p.Architectures = nil
	chosen, err := chooseArchs(nil, runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	refused, noSuch := 0, 0
	filtered(t, p, func(f *Filter, _ int) {
		for nr := chosen[0].base; nr < chosen[0].base+1200; nr++ {
			// The kernel asks no filter about what uprobes do
			// (seccomp_uprobe_exception, Linux 6.14 and 6.18).
			if nr == native(t, "uprobe") || nr == native(t, "uretprobe") {
				continue
			}
			r := run(f.Program, &data{nr: nr, arch: chosen[0].audit}, chosen[0].big)
			if r.ret&unix.SECCOMP_RET_ACTION_FULL != unix.SECCOMP_RET_ERRNO {
				continue
			}
			want := unix.Errno(r.ret & unix.SECCOMP_RET_DATA)
			if got := call(nr); got != want {
				t.Errorf("system call %d: %v, and not %v", nr, got, want)
			}
			refused++
			if want == unix.ENOSYS {
				noSuch++
			}
		}
	})
	if refused-noSuch < 50 || noSuch < 500 {
		t.Errorf("%d calls refused, of which %d with ENOSYS: too few to be docker's profile", refused, noSuch)
	}
}

// TestKernelArgs sees comparisons of arguments in both halves. The calls do
// nothing: descriptor -1 is none.
func TestKernelArgs(t *testing.T) {
	arg := func(index uint, op specs.LinuxSeccompOperator, v, two uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: index, Op: op, Value: v, ValueTwo: two}
	}
	rule := func(errno uint, name string, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: []string{name}, Action: specs.ActErrno, ErrnoRet: &errno, Args: args}
	}
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog}, Syscalls: []specs.LinuxSyscall{
		rule(100, "fsync", arg(1, specs.OpEqualTo, 1<<32+5, 0)),
		rule(101, "fsync", arg(1, specs.OpGreaterThan, 5<<32, 0), arg(2, specs.OpNotEqual, 7, 0)),
		rule(102, "fdatasync", arg(1, specs.OpMaskedEqual, 0xff00000000f0, 0x120000000030)),
		rule(103, "fchdir", arg(1, specs.OpLessEqual, 1<<32, 0)),
		rule(104, "fchdir", arg(1, specs.OpGreaterEqual, 1<<40, 0)),
	}}
	const none = ^uintptr(0)
	type try struct {
		name      string
		one, two  uint64
		errno     unix.Errno
		wideErrno unix.Errno // where arguments have 64 bits
	}
	filtered(t, p, func(*Filter, int) {
		for _, c := range []try{
			{"fsync", 5, 0, 100, unix.EBADF},
			{"fsync", 1<<32 + 5, 0, 100, 100},
			{"fsync", 5<<32 + 1, 0, 101, 101},
			{"fsync", 6 << 32, 7, unix.EBADF, unix.EBADF},
			{"fsync", 6 << 32, 0, unix.EBADF, 101},
			{"fdatasync", 0xab1200000000003f, 0, 102, unix.EBADF},
			{"fdatasync", 0xab120000003f &^ 0xff, 0, unix.EBADF, unix.EBADF},
			{"fdatasync", 0x1200000000ff &^ 0xc0, 0, 102, 102},
			{"fchdir", 1 << 32, 0, 103, 103},
			{"fchdir", 1<<32 + 1, 0, 104, unix.EBADF},
			{"fchdir", 1 << 63, 0, 103, 104},
		} {
			want := c.errno
			if unsafe.Sizeof(uintptr(0)) == 8 {
				want = c.wideErrno
			}
			if got := call(native(t, c.name), none, uintptr(c.one), uintptr(c.two)); got != want {
				t.Errorf("%s(-1, %#x, %d): errno %d, and not %d", c.name, c.one, c.two, got, want)
			}
		}
	})
}

// TestKernelNotify: the listener is made, and without it calls get ENOSYS.
func TestKernelNotify(t *testing.T) {
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/run/agent.sock",
		Syscalls: []specs.LinuxSyscall{{Names: []string{"fsync"}, Action: specs.ActNotify}}}
	if unix.Access("/proc/sys/kernel/seccomp/actions_avail", 0) == nil {
		p.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagSpecAllow}
	}
	filtered(t, p, func(f *Filter, listener int) {
		if !f.Notify || listener < 0 {
			t.Errorf("listener %d", listener)
			return
		}
		if link, err := os.Readlink("/proc/thread-self/fd/" + itoa(listener)); err != nil || link != "anon_inode:seccomp notify" {
			t.Errorf("the listener is %q, %v", link, err)
		}
		unix.Close(listener)
		if errno := call(native(t, "fsync"), ^uintptr(0)); errno != unix.ENOSYS {
			t.Errorf("with nobody to ask: %v", errno)
		}
	})
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

// TestKernelKill: the process is killed by the call that the profile names, and
// by no other. It is this program anew.
func TestKernelKill(t *testing.T) {
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"fsync"}, Action: specs.ActKillProcess}}}
	if os.Getenv("BERTH_SECCOMP_KILL") != "" {
		filtered(t, p, func(*Filter, int) {
			if errno := call(native(t, "fdatasync"), ^uintptr(0)); errno != unix.EBADF {
				t.Errorf("fdatasync: %v", errno)
				return
			}
			os.Stdout.WriteString("alive\n")
			call(native(t, "fsync"), ^uintptr(0))
		})
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestKernelKill$")
	cmd.Env = append(os.Environ(), "BERTH_SECCOMP_KILL=1")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("%v\n%s", err, out)
	}
	if s := exit.Sys().(syscall.WaitStatus); !s.Signaled() || s.Signal() != unix.SIGSYS || string(out) != "alive\n" {
		t.Errorf("%v, and it said %q", err, out)
	}
}

func TestSupportedFlags(t *testing.T) {
	got := SupportedFlags()
	for _, f := range []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagSpecAllow, specs.LinuxSeccompFlagLog} {
		found := false
		for _, g := range got {
			found = found || g == string(f)
		}
		if !found { // both are in Linux 4.17
			t.Errorf("%s is not among %v", f, got)
		}
	}
}
