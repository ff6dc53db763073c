package child

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/step"
)

// Steps by which the process waits for another, tells it something, or goes on
// as another.

// sleeps waits until the process sleeps in a call (proc_pid_syscall(5)).
func (b *bench) sleeps(nr uintptr) {
	b.Helper()
	want := fmt.Sprint(nr, " ")
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		s, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", b.p.Pid))
		if err != nil {
			b.Fatal(err)
		}
		if strings.HasPrefix(string(s), want) {
			return
		}
	}
	b.Fatalf("the process does not wait in call %d: %s", nr, b.proc("syscall"))
}

// ends reaps the process; one that goes on is an error.
func (b *bench) ends() (ws unix.WaitStatus) {
	b.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if pid, err := unix.Wait4(b.p.Pid, &ws, unix.WNOHANG, nil); err != nil {
			b.Fatal(err)
		} else if pid != 0 {
			return ws
		}
	}
	b.Fatal("the process goes on")
	return 0
}

func TestAwait(t *testing.T) {
	b := newBench(t)
	r, peer := b.pipe()
	out, w := b.pipe()
	plan := &step.Plan{}
	plan.Add(step.Await{FD: step.Int(int(r.Fd())), Peer: step.Int(peer), For: "the test"})
	b.become(plan, w, fmt.Sprintf("[ -e /proc/$$/fd/%d ] || echo closed", peer))
	unix.Close(w)
	b.sleeps(unix.SYS_READ)
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(out.Fd()), Events: unix.POLLIN}}, 0); n != 0 || err != nil {
		t.Errorf("it went on before it may: %d, %v", n, err)
	}
	if _, err := unix.Write(peer, []byte{1}); err != nil {
		t.Fatal(err)
	}
	unix.Close(peer)
	text, err := io.ReadAll(out)
	if string(text) != "closed\n" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

func TestTell(t *testing.T) {
	b := newBench(t)
	r, peer := b.pipe()
	plan := &step.Plan{}
	plan.Add(step.Tell{FD: step.From(ErrFD), That: "here"}, step.Await{FD: step.Int(int(r.Fd())), Peer: step.Int(peer), For: "the test"}, step.Exec{Args: []string{"/no/such"}})
	b.start(plan)
	defer unix.Close(peer)
	if reached, err := b.p.Reached(); !reached || err != nil {
		t.Errorf("not told: %v", err)
	}
	if _, err := unix.Write(peer, []byte{1}); err != nil {
		t.Fatal(err)
	}
	if reached, err := b.p.Reached(); reached || err != nil {
		t.Errorf("told twice: %v", err)
	}
	if err := b.p.Started(); err == nil || !strings.Contains(err.Error(), "/no/such") {
		t.Errorf("what failed after it: %v", err)
	}
}

func TestPause(t *testing.T) {
	b := newBench(t)
	plan := &step.Plan{}
	plan.Add(step.Pause{})
	b.start(plan)
	b.sleeps(unix.SYS_PPOLL)
	unix.Kill(b.p.Pid, unix.SIGKILL)
	if ws := b.ends(); ws.Signal() != unix.SIGKILL {
		t.Errorf("%#x", ws)
	}
}

// The first process of a pid namespace takes no signal by itself.
func TestDieBySignal(t *testing.T) {
	for sig, want := range map[unix.Signal]int{unix.SIGHUP: 129, unix.SIGINT: 130, unix.SIGQUIT: 131, unix.SIGTERM: 143} {
		b := newBench(t)
		plan := &step.Plan{CloneFlags: unix.CLONE_NEWPID}
		plan.Add(step.DieBySignal{}, step.Signals{}, step.Pause{})
		b.start(plan)
		b.sleeps(unix.SYS_PPOLL)
		unix.Kill(b.p.Pid, sig)
		if ws := b.ends(); ws.ExitStatus() != want {
			t.Errorf("%v: %#x", sig, ws)
		}
	}
}

// awaiting is a process that waits for start; the other results are the FIFO and
// what reads the program's output.
func awaiting(b *bench, program string) (fifo string, out *os.File) {
	fifo = b.dir + "/start"
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		b.Fatal(err)
	}
	dir := b.open(b.dir, unix.O_PATH)
	out, w := b.pipe()
	plan := &step.Plan{}
	plan.Add(step.Dup{From: step.Int(w), To: 1}, step.AwaitStart{Ready: step.From(ErrFD), Dir: step.Int(dir), Name: "start", Err: ErrFD},
		step.Exec{Args: []string{program, "sh", "-c", fmt.Sprintf("[ -e /proc/$$/fd/%d ] || echo closed", dir)}})
	b.start(plan)
	unix.Close(w)
	if err := b.p.Started(); err != nil { // at once: it is ready
		b.Fatal(err)
	}
	b.sleeps(unix.SYS_OPENAT)
	return fifo, out
}

func TestAwaitStart(t *testing.T) {
	b := newBench(t)
	fifo, out := awaiting(b, busyboxPath(t))
	report, err := os.ReadFile(fifo) // to its end: execve closes it
	if len(report) != 0 || err != nil {
		t.Errorf("%q, %v", report, err)
	}
	if text, err := io.ReadAll(out); string(text) != "closed\n" || err != nil {
		t.Errorf("%q, %v", text, err)
	}

	b = newBench(t)
	fifo, _ = awaiting(b, "/no/such") // whoever opens the FIFO is told
	f, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := ReadError(f, b.p.plan); err == nil || !strings.Contains(err.Error(), "/no/such") {
		t.Errorf("got %v", err)
	}
}

func TestReaper(t *testing.T) {
	b := newBench(t)
	out, w := b.pipe()
	plan := &step.Plan{CloneFlags: unix.CLONE_NEWPID}
	plan.Add(step.Reaper{}, step.Signals{})
	b.become(plan, w, `trap "echo got it; exit 9" TERM; (sleep 0 &); sleep 0.05; echo $$; while :; do sleep 0.01; done`)
	unix.Close(w)
	var line [2]byte
	if _, err := io.ReadFull(out, line[:]); err != nil || string(line[:]) != "2\n" { // 1 is the reaper
		t.Errorf("%q, %v", line, err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", b.p.Pid))
		if err != nil {
			t.Log("orphans cannot be counted: CONFIG_PROC_CHILDREN is not set")
			break
		}
		if n := len(strings.Fields(string(children))); n == 1 {
			break
		} else if time.Now().After(deadline) {
			t.Errorf("process 1 has %d children: the orphan was not reaped", n)
			break
		}
	}
	unix.Kill(b.p.Pid, unix.SIGTERM)
	if ws := b.ends(); ws.ExitStatus() != 9 {
		t.Errorf("%#x", ws)
	}
	if text, err := io.ReadAll(out); string(text) != "got it\n" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

// terminal is a plan that has a devpts of its own, and the socket the master comes by.
func terminal(b *bench, t step.Terminal) (*step.Plan, int) {
	s, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Close(s[0]); unix.Close(s[1]) })
	plan := &step.Plan{CloneFlags: unix.CLONE_NEWNS}
	plan.Add(b.mounting()...)
	t.Root, t.Socket = b.root, step.Int(s[1])
	plan.Add(step.NewSession{}, step.MountFS{Root: b.root, Source: "devpts", Type: "devpts", Target: "/dev/pts", Data: "newinstance,ptmxmode=0666"}, t)
	return plan, s[0]
}

func TestTerminal(t *testing.T) {
	b := newBench(t)
	plan, socket := terminal(b, step.Terminal{Rows: 33, Columns: 77, UID: 1000, Console: true, PlainLF: true})
	out, w := b.pipe()
	b.become(plan, w, `for fd in 0 1 2; do busybox readlink /proc/$$/fd/$fd; done; busybox stat -c %u $1/dev/pts/0; echo hello >$1/dev/console; `+
		`set -- $(cat /proc/$$/stat); [ $7 != 0 ] && echo controls; read line; echo $line`)
	unix.Close(w)
	if err := b.p.Started(); err != nil {
		t.Fatal(err)
	}
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		t.Fatal("no descriptor came: ", err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		t.Fatal(err)
	}
	master := os.NewFile(uintptr(fds[0]), "master")
	defer master.Close()
	if size, err := unix.IoctlGetWinsize(fds[0], unix.TIOCGWINSZ); err != nil || size.Row != 33 || size.Col != 77 {
		t.Errorf("%+v, %v", size, err)
	}
	master.WriteString("typed\n")
	// stdin alone is the terminal's: the shell writes to the pipe
	text, err := io.ReadAll(out)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if err != nil || len(lines) != 6 || lines[3] != "1000" || lines[4] != "controls" || lines[5] != "typed" || !strings.HasSuffix(lines[0], "/0") {
		t.Errorf("%q, %v", lines, err)
	}
	buf := make([]byte, 100)
	n, err = master.Read(buf)
	if s := string(buf[:n]); !strings.Contains(s, "hello\n") || strings.Contains(s, "\r") || err != nil {
		t.Errorf("the console gave %q, %v", s, err)
	}

	b = newBench(t)
	plan, _ = terminal(b, step.Terminal{})
	plan.Steps[len(plan.Steps)-2] = step.Umask{} // no devpts
	alone{of: step.Terminal{}, call: "openat2", errno: unix.ENOENT}.fail(b, plan, plan.Steps[len(plan.Steps)-1])
}
