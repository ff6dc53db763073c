package child

import (
	"bytes"
	"os"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/step"
)

// rseqArea registers an area for this thread, as glibc does for each of its own,
// and gives the function that takes it back. Built with cgo there is one.
func rseqArea(t *testing.T) (forget func()) {
	t.Helper()
	if registered() {
		return func() {}
	}
	const size, sig = 32, 0x53053053
	mem, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	addr := uintptr(unsafe.Pointer(&mem[0]))
	if _, _, errno := unix.RawSyscall6(unix.SYS_RSEQ, addr, size, 0, sig, 0, 0); errno == unix.ENOSYS {
		t.Skip("this kernel has no rseq(2): CONFIG_RSEQ is not set")
	} else if errno != 0 {
		t.Fatal("rseq: ", errno)
	}
	return func() {
		const unregister = 1
		if _, _, errno := unix.RawSyscall6(unix.SYS_RSEQ, addr, size, unregister, sig, 0, 0); errno != 0 {
			t.Error("rseq: unregister: ", errno)
		}
		unix.Munmap(mem)
	}
}

// A thread's area is part of the memory that the child gives back.
func TestThreadWithAnAreaOfTheKernels(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	forget := rseqArea(t)
	defer forget()
	if !registered() {
		t.Fatal("the area was not noticed")
	}
	for range 20 {
		if ws, err := runAfterSleep(t); err != nil || ws.ExitStatus() != 7 {
			t.Fatalf("%#x, %v", ws, err)
		}
	}
	// An error of the second clone3 is told.
	plan := &step.Plan{}
	plan.Add(step.Signals{}, step.Exec{Args: []string{"/bin/true"}})
	plan.CloneFlags = unix.CLONE_NEWNS | unix.CLONE_FS // exclude each other
	if p, err := Start(plan, Options{}); err == nil {
		closeProcess(p)
		t.Error("clone3 with impossible flags succeeded")
	}
	if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("a process is left: %v", err)
	}
}

// runAfterSleep runs a plan whose process sleeps once: the kernel writes to the
// area of one that comes back from there.
func runAfterSleep(t *testing.T) (ws unix.WaitStatus, err error) {
	t.Helper()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	plan := &step.Plan{}
	plan.Add(step.LeaveMemory{}, step.Await{FD: step.Int(pipe[0]), Peer: step.Int(pipe[1]), For: "the test"}, step.Signals{},
		step.Exec{Args: []string{"sh", "-c", "exit 7"}, Path: []string{"/usr/bin", "/bin"}})
	p, err := Start(plan, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeProcess(p)
	for stat := []byte("R"); stat[0] != 'S' && stat[0] != 'Z'; unix.Nanosleep(&unix.Timespec{Nsec: 1e5}, nil) {
		b, err := os.ReadFile("/proc/" + itoa(uintptr(p.Pid)) + "/stat")
		if err != nil {
			t.Fatal(err)
		}
		stat = b[bytes.LastIndexByte(b, ')')+2:]
	}
	unix.Write(pipe[1], []byte{1})
	if err := p.Started(); err != nil {
		t.Error(err)
	}
	_, err = unix.Wait4(p.Pid, &ws, 0, nil)
	return ws, err
}

// The pid namespace is joined by the child alone.
func TestAreaAndPidNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a pid namespace is made by root: run as root")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	holder := &step.Plan{CloneFlags: unix.CLONE_NEWPID}
	holder.Add(step.Signals{}, step.Exec{Args: []string{"sleep", "100"}, Path: []string{"/usr/bin", "/bin"}})
	h, err := Start(holder, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		unix.Kill(h.Pid, unix.SIGKILL)
		unix.Wait4(h.Pid, nil, 0, nil)
		closeProcess(h)
	}()
	if err := h.Started(); err != nil {
		t.Fatal(err)
	}
	ns, err := os.Open("/proc/" + itoa(uintptr(h.Pid)) + "/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	forget := rseqArea(t)
	defer forget()
	plan := &step.Plan{}
	plan.Add(step.LeaveMemory{}, step.Signals{}, step.Exec{Args: []string{"sh", "-c", "exit $$"}, Path: []string{"/usr/bin", "/bin"}})
	p, err := Start(plan, Options{PidNS: ns})
	if err != nil {
		t.Fatal(err)
	}
	defer closeProcess(p)
	if err := p.Started(); err != nil {
		t.Fatal(err)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(p.Pid, &ws, 0, nil); err != nil || ws.ExitStatus() != 2 {
		t.Errorf("the child was process %d of the namespace, %v", ws.ExitStatus(), err)
	}
	own, _ := os.Readlink("/proc/thread-self/ns/pid_for_children")
	if host, _ := os.Readlink("/proc/self/ns/pid"); own != host {
		t.Errorf("the thread makes children in %s, not in %s", own, host)
	}
}

func BenchmarkClone(b *testing.B) {
	for _, c := range []struct {
		name string
		area bool
	}{{"plain", false}, {"area", true}} {
		b.Run(c.name, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			if c.area {
				defer rseqArea(&testing.T{})()
			} else if registered() {
				b.Skip("with cgo every thread has an area")
			}
			plan := &step.Plan{}
			plan.Add(step.LeaveMemory{}, step.Signals{}, step.Exec{Args: []string{"/bin/true"}})
			for b.Loop() {
				p, err := Start(plan, Options{})
				if err != nil {
					b.Fatal(err)
				}
				if err := p.Started(); err != nil {
					b.Fatal(err)
				}
				unix.Wait4(p.Pid, nil, 0, nil)
				closeProcess(p)
			}
		})
	}
}
