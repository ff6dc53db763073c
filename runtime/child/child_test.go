package child

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/seccomp"
	"github.com/berth-run/berth/runtime/step"
)

// layout.h is read by the assembler only: hold it against the structs.
func TestLayoutMatchesAssembly(t *testing.T) {
	b, err := os.ReadFile("layout.h")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]uintptr{
		"header_ops": unsafe.Offsetof(header{}.ops), "header_errfd": unsafe.Offsetof(header{}.errfd),
		"header_report": unsafe.Offsetof(header{}.report),
		"apart_outer":   unsafe.Offsetof(apart{}.outer), "apart_inner": unsafe.Offsetof(apart{}.inner), "apart_code": unsafe.Offsetof(apart{}.code),
		"apart_header": unsafe.Offsetof(apart{}.header), "apart_ns": unsafe.Offsetof(apart{}.ns), "apart_helper": unsafe.Offsetof(apart{}.helper),
		"apart_result": unsafe.Offsetof(apart{}.result), "apart_args_size": unsafe.Sizeof(cloneArgs{}),
		"op_nr": unsafe.Offsetof(op{}.nr), "op_args": unsafe.Offsetof(op{}.args), "op_save": unsafe.Offsetof(op{}.save),
		"op_hole": unsafe.Offsetof(op{}.hole), "op_refs": unsafe.Offsetof(op{}.refs), "op_flags": unsafe.Offsetof(op{}.flags),
		"op_may": unsafe.Offsetof(op{}.may), "op_skip": unsafe.Offsetof(op{}.skip), "op_result": unsafe.Offsetof(op{}.result),
		"op_tick": unsafe.Offsetof(op{}.tick), "op_size": unsafe.Sizeof(op{}),
		"flag_nonzero": flagNonZero, "flag_reap": flagReap, "header_status": unsafe.Offsetof(header{}.status), "header_all": unsafe.Offsetof(header{}.all),
		"header_handed": unsafe.Offsetof(header{}.handed), "op_then": unsafe.Offsetof(op{}.then), "flag_hand": flagHand, "flag_once": flagOnce,
	}
	for _, line := range strings.Split(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "#define" {
			continue
		}
		if w, ok := want[f[1]]; !ok || f[2] != itoa(w) {
			t.Errorf("%s is %s in layout.h, %d in region.go", f[1], f[2], w)
		}
		delete(want, f[1])
	}
	for name := range want {
		t.Errorf("layout.h lacks %s", name)
	}
}

// The region copies codeSize bytes of text from entry on: all of the interpreter.
func TestInterpreterFitsItsRegion(t *testing.T) {
	size := codeEnd() - entry()
	if size == 0 || size > codeSize {
		t.Errorf("the interpreter has %d bytes, %d are copied", size, codeSize)
	}
}

// Calls are passed over after success as Then says, and a plan can hand itself over.
func TestThenAndHandover(t *testing.T) {
	plan := &step.Plan{}
	plan.Add(step.Handover{}, step.LookPath{Name: "sh", Path: []string{"/nowhere", "/usr/bin", "/bin"}},
		step.Signals{}, step.Exec{Args: []string{"sh", "-c", "exit 9"}, Path: []string{"/usr/bin", "/bin"}})
	p, err := Start(plan, Options{})
	if err != nil {
		t.Fatal(err)
	}
	first := p.Pid
	if err := p.Handed(); err != nil || p.Pid == first || p.Pid == 0 {
		t.Fatalf("handed to %d, from %d, %v", p.Pid, first, err)
	}
	defer closeProcess(p)
	if err := p.Started(); err != nil {
		t.Fatal(err)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(p.Pid, &ws, 0, nil); err != nil || ws.ExitStatus() != 9 {
		t.Fatalf("exit %d, %v", ws.ExitStatus(), err)
	}
}

func itoa(v uintptr) string {
	s := ""
	for ; v > 0 || s == ""; v /= 10 {
		s = string(rune('0'+v%10)) + s
	}
	return s
}

// run executes a plan and gives the exit status of its process.
func run(t *testing.T, plan *step.Plan) (unix.WaitStatus, error) {
	t.Helper()
	p, err := Start(plan, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeProcess(p)
	started := p.Started()
	var ws unix.WaitStatus
	if _, err := unix.Wait4(p.Pid, &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	return ws, started
}

func TestExecRuns(t *testing.T) {
	plan := &step.Plan{}
	plan.Add(step.Signals{}, step.LeaveMemory{}, step.Exec{Args: []string{"sh", "-c", "exit 7"}, Path: []string{"/nowhere", "/usr/bin", "/bin"}})
	ws, err := run(t, plan)
	if err != nil || ws.ExitStatus() != 7 {
		t.Fatalf("exit %d, %v", ws.ExitStatus(), err)
	}
}

func TestErrorNamesTheCall(t *testing.T) {
	plan := &step.Plan{}
	plan.Add(step.Signals{}, step.LeaveMemory{}, step.Exec{Args: []string{"/no/such"}})
	_, err := run(t, plan)
	var e *Error
	if !errors.As(err, &e) || e.Errno != unix.ENOENT || e.Call.Name != "faccessat" {
		t.Fatalf("got %v", err)
	}
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v is not ErrNotExist", err)
	}
}

func TestToleratedErrorsSkip(t *testing.T) {
	plan := &step.Plan{}
	plan.Add(step.Signals{},
		step.Exec{Args: []string{"no-such-program"}, Path: []string{"/etc/passwd", "/etc", "/usr"}})
	_, err := run(t, plan)
	var e *Error
	if !errors.As(err, &e) || e.Errno != unix.ENOENT {
		t.Fatalf("got %v", err)
	}
}

// A file that is there and may not be executed is the error that is told, not
// that the last directory has none.
func TestNotExecutableWinsOverNotFound(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/prog", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	plan := &step.Plan{}
	plan.Add(step.Exec{Args: []string{"prog"}, Path: []string{dir, "/usr"}})
	_, err := run(t, plan)
	if !errors.Is(err, unix.EACCES) {
		t.Fatalf("got %v", err)
	}
}

func TestReaderOfClosedPipeEnds(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	plan := &step.Plan{}
	plan.Add(step.Await{FD: step.Int(pipe[0]), Peer: step.Int(pipe[1]), For: "nothing"})
	p, err := Start(plan, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeProcess(p)
	unix.Close(pipe[1])
	defer unix.Close(pipe[0])
	if err := p.Started(); !errors.Is(err, unix.EPIPE) {
		t.Errorf("got %v", err)
	}
	if _, err := unix.Wait4(p.Pid, nil, 0, nil); err != nil {
		t.Fatal(err)
	}
}

func TestBinaryIsHidden(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("PR_SET_MM_MAP needs CAP_CHECKPOINT_RESTORE: run as root")
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	plan := &step.Plan{}
	plan.Add(step.LeaveMemory{}, step.HideBinary{}, step.Await{FD: step.Int(pipe[0]), Peer: step.Int(pipe[1]), For: "the test"},
		step.Signals{}, step.Exec{Args: []string{"/bin/true"}})
	p, err := Start(plan, Options{Trace: true})
	if err != nil {
		t.Fatal(err)
	}
	defer closeProcess(p)
	exe := waitExe(p.Pid)
	if !strings.Contains(exe, "memfd:berth") {
		t.Errorf("/proc/PID/exe is %s", exe)
	}
	maps, _ := os.ReadFile("/proc/" + itoa(uintptr(p.Pid)) + "/maps")
	if n := strings.Count(string(maps), "\n"); n > 3 { // code, data, vsyscall
		t.Errorf("%d mappings are left:\n%s", n, maps)
	}
	unix.Write(pipe[1], []byte("x"))
	if err := p.Started(); err != nil {
		t.Error(err)
	}
	unix.Wait4(p.Pid, nil, 0, nil)
	unix.Close(pipe[0])
	unix.Close(pipe[1])
	if len(p.Trace()) < 5 {
		t.Errorf("trace has %d calls", len(p.Trace()))
	}
	alone{of: step.HideBinary{}, steps: func(*bench) []step.Step {
		return []step.Step{step.Capabilities{}, step.LeaveMemory{}, step.HideBinary{}}
	}, call: "prctl", errno: unix.EPERM}.run(newBench(t))
}

func waitExe(pid int) (exe string) {
	for range 2000 {
		exe, _ = os.Readlink("/proc/" + itoa(uintptr(pid)) + "/exe")
		if strings.Contains(exe, "memfd") {
			break
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
	}
	return exe
}

func closeProcess(p *Process) {
	p.Release()
	p.Pidfd.Close()
}

// close(2) is not made again after EINTR: the number may be another's by then.
// Other calls are, here until a signal that ends the process.
func TestInterruptedCloseIsNotRepeated(t *testing.T) {
	eintr := uint(unix.EINTR)
	filter, err := seccomp.Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow,
		Syscalls: []specs.LinuxSyscall{{Names: []string{"close", "umask"}, Action: specs.ActErrno, ErrnoRet: &eintr}}}, runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	plan := &step.Plan{}
	fd := step.WriteFile{Path: "/dev/null", Value: "x"} // ends in close
	plan.Add(step.Signals{}, step.NoNewPrivs{}, step.Seccomp{Program: filter.Bytes()}, fd, step.Exec{Args: []string{"/bin/true"}})
	if ws, err := run(t, plan); err != nil || !ws.Exited() { // the program itself may not like it
		t.Errorf("%#x, %v", ws, err)
	}
	plan = &step.Plan{}
	plan.Add(step.Signals{}, step.NoNewPrivs{}, step.Seccomp{Program: filter.Bytes()}, step.Umask{}, step.Exec{Args: []string{"/bin/true"}})
	p, err := Start(plan, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeProcess(p)
	unix.Nanosleep(&unix.Timespec{Nsec: 2e7}, nil)
	if pid, err := unix.Wait4(p.Pid, nil, unix.WNOHANG, nil); pid != 0 || err != nil {
		t.Errorf("a call that was interrupted ended the process: %v", err)
	}
	unix.Kill(p.Pid, unix.SIGKILL)
	unix.Wait4(p.Pid, nil, 0, nil)
}

// The kernel ends a string at its first NUL: whoever checked the whole of it
// checked something else.
func TestNoNULInStrings(t *testing.T) {
	for name, s := range map[string]step.Step{
		"path":     step.Chdir{Path: "/tmp\x00/../etc"},
		"mount":    step.MountFS{Root: ErrFD, Source: "none", Target: "/a\x00b", Type: "tmpfs"},
		"sysctl":   step.WriteFile{Path: "/proc/sys/net/a\x00b", Value: "1"},
		"argument": step.Exec{Args: []string{"/bin/true", "a\x00b"}},
	} {
		if r, err := newRegion(s.Calls(), 2); err == nil || !strings.Contains(err.Error(), "NUL") {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
}
