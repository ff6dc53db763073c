package seccomp

import (
	"testing"

	moby "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// docker gives docker's default profile for a container with some capabilities.
func docker(t testing.TB, caps ...string) *specs.LinuxSeccomp {
	t.Helper()
	p, err := moby.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}})
	if err != nil {
		t.Fatal(err)
	}
	// As on amd64, whatever the test runs on.
	p.Architectures = []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}
	return p
}

// common are the system calls of shells, servers and language runtimes.
var common = []string{"read", "write", "close", "fstat", "poll", "lseek", "mmap", "mprotect", "munmap", "brk", "rt_sigaction",
	"rt_sigprocmask", "ioctl", "pread64", "writev", "access", "sched_yield", "madvise", "dup2", "nanosleep", "getpid", "sendfile",
	"socket", "connect", "sendto", "recvfrom", "sendmsg", "recvmsg", "clone", "execve", "wait4", "fcntl", "getcwd", "futex",
	"epoll_wait", "epoll_ctl", "openat", "newfstatat", "readlinkat", "clock_nanosleep", "epoll_pwait", "accept4", "getrandom",
	"statx", "faccessat2", "clone3", "exit_group"}

// steps gives how many instructions a program executes for the common calls
// of amd64, in the mean.
func steps(prog []unix.SockFilter) float64 {
	n := 0
	for _, name := range common {
		d := &data{arch: unix.AUDIT_ARCH_X86_64, nr: archs[0].number(archs[0].slot(findSyscall(name, 1)))}
		n += run(prog, d, false).steps
	}
	return float64(n) / float64(len(common))
}

// TestDockerSteps: the program is shorter than libseccomp's, and it executes
// fewer instructions.
func TestDockerSteps(t *testing.T) {
	p := docker(t)
	f, err := Compile(p, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	valid(t, f.Program)
	mine := steps(f.Program)
	t.Logf("%d instructions, %.1f executed for a common call", len(f.Program), mine)
	if len(f.Program) > 320 || mine > 11 {
		t.Errorf("the program was shorter once")
	}
	o := newOracle(t)
	chosen, err := chooseArchs(p.Architectures, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	for optimize, kind := range map[int]string{1: "list", 2: "tree"} {
		theirs, err := o.compile(t, p, chosen, optimize)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("libseccomp, %s: %d instructions, %.1f executed", kind, len(theirs), steps(theirs))
		if len(theirs) < len(f.Program) || steps(theirs) < mine {
			t.Errorf("libseccomp is better")
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	p := docker(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(p, "amd64"); err != nil {
			b.Fatal(err)
		}
	}
}
