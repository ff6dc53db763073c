package oci

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/engine"
)

// child starts a shell as the engine would.
func child(t *testing.T, script string) *engine.Process {
	t.Helper()
	c := exec.Command("sh", "-c", script)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(c.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	return &engine.Process{Pid: c.Process.Pid, Pidfd: os.NewFile(uintptr(fd), "pidfd")}
}

func newTestForeground(t *testing.T, c *call) *foreground {
	t.Helper()
	f, err := c.newForeground(false)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWait(t *testing.T) {
	c, _ := testCall(t)
	for script, want := range map[string]int{"exit 0": 0, "exit 42": 42, "kill -KILL $$": 137, "kill -SEGV $$": 139} {
		f := newTestForeground(t, c)
		if got := f.wait(child(t, script)); got != want {
			t.Errorf("%s: %d, want %d", script, got, want)
		}
		f.close()
	}
}

func TestForward(t *testing.T) {
	c, _ := testCall(t)
	f := newTestForeground(t, c)
	defer f.close()
	// The signal is there before the process is, and reaches it all the same.
	if err := unix.Kill(os.Getpid(), unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	p := child(t, "trap 'exit 7' USR1; while :; do sleep 0.05; done")
	time.Sleep(300 * time.Millisecond) // sh must have set its trap
	if got := f.wait(p); got != 7 {
		t.Errorf("status %d, want 7", got)
	}
}

func TestForwardAnySignal(t *testing.T) {
	c, _ := testCall(t)
	f := newTestForeground(t, c)
	defer f.close()
	p := child(t, "trap 'exit 8' 37; while :; do sleep 0.05; done")
	time.Sleep(300 * time.Millisecond)
	if err := unix.Kill(os.Getpid(), 37); err != nil {
		t.Fatal(err)
	}
	if got := f.wait(p); got != 8 {
		t.Errorf("status %d, want 8", got)
	}
}

// openPTY makes a terminal without a caller's one behind it.
func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "console"), slave
}

// All that was written arrives, also when others keep the terminal open.
func TestTerminalOutput(t *testing.T) {
	for _, held := range []bool{false, true} {
		master, slave := openPTY(t)
		defer slave.Close()
		f := &tty{master: master, copied: make(chan struct{})}
		if err := change(master, func(m *unix.Termios) { m.Oflag &^= unix.ONLCR }); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		go f.copyOut(&out)
		want := strings.Repeat("line\n", 20000)
		if _, err := slave.WriteString(want); err != nil {
			t.Fatal(err)
		}
		if !held {
			slave.Close()
		}
		began := time.Now()
		f.close()
		if out.String() != want {
			t.Errorf("held open %v: %d bytes of %d, %q…", held, out.Len(), len(want), out.String()[:min(20, out.Len())])
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("held open %v: it took %v", held, took)
		}
	}
}

func TestRawAndResize(t *testing.T) {
	host, hostSlave := openPTY(t)
	master, slave := openPTY(t)
	defer host.Close()
	defer hostSlave.Close()
	defer slave.Close()
	f := &tty{master: master, host: hostSlave, copied: make(chan struct{})}
	before := termios(t, hostSlave)
	if err := f.raw(); err != nil {
		t.Fatal(err)
	}
	if m := termios(t, hostSlave); m.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 || m.Oflag&unix.OPOST == 0 {
		t.Errorf("raw: %+v", m)
	}
	if err := unix.IoctlSetWinsize(int(hostSlave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 10, Col: 110}); err != nil {
		t.Fatal(err)
	}
	f.resize()
	if w, err := unix.IoctlGetWinsize(int(slave.Fd()), unix.TIOCGWINSZ); err != nil || w.Row != 10 || w.Col != 110 {
		t.Errorf("size: %+v, %v", w, err)
	}
	go f.copyOut(&bytes.Buffer{})
	f.close()
	if m := termios(t, hostSlave); m != before {
		t.Errorf("after close: %+v, want %+v", m, before)
	}
}

func termios(t *testing.T, f *os.File) unix.Termios {
	t.Helper()
	m, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *m
}

// Go ends a program that writes to descriptor 1 or 2 when nobody reads: the log
// of who waits for a container lies elsewhere, and stays the log on stderr.
func TestLogWithoutAReader(t *testing.T) {
	for _, file := range []bool{false, true} {
		c, _ := testCall(t)
		if file {
			if err := c.log.open(t.TempDir() + "/log"); err != nil {
				t.Fatal(err)
			}
		}
		before := c.log.stderr.Fd()
		f := newTestForeground(t, c)
		f.close()
		if after := c.log.stderr.Fd(); after == before || after < 3 {
			t.Errorf("the log is written to descriptor %d, which was %d", after, before)
		}
		if c.log.onStderr() == file {
			t.Errorf("on stderr: %v", !file)
		}
	}
}
