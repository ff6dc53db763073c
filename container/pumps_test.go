package container

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pipe as running.pipes makes it: our end does not block.
func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	unix.SetNonblock(p[0], true)
	r, w = os.NewFile(uintptr(p[0]), "pipe"), os.NewFile(uintptr(p[1]), "pipe")
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

type slowWriter struct {
	bytes.Buffer
	wait time.Duration
}

func (s *slowWriter) Write(p []byte) (int, error) {
	time.Sleep(s.wait)
	return s.Buffer.Write(p)
}

func ends(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { f(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal(what, "does not end")
	}
}

func TestDrainEnds(t *testing.T) {
	for name, pause := range map[string]time.Duration{"flood": 0, "trickle": 10 * time.Millisecond} {
		r, w := pipe(t)
		go func() { // escaped the container and writes on
			for {
				if _, err := w.WriteString(strings.Repeat("x", 100)); err != nil {
					return
				}
				time.Sleep(pause)
			}
		}()
		p := newPumps()
		p.add(r, nil, &slowWriter{wait: time.Millisecond})
		ends(t, name, p.drain)
	}
}

func TestDrainLosesNothing(t *testing.T) {
	r, w := pipe(t) // w stays open: somebody outside has it
	to := &slowWriter{wait: 2 * drainGrace}
	p := newPumps()
	p.add(r, nil, to)
	all := strings.Repeat("0123456789abcdef", 6<<10) // more than a pump's buffer
	if _, err := w.WriteString(all); err != nil {
		t.Fatal(err)
	}
	ends(t, "drain", p.drain)
	if to.String() != all {
		t.Errorf("%d bytes of %d came", to.Len(), len(all))
	}
}

func TestDrainIsCut(t *testing.T) {
	r, w := pipe(t)
	p := newPumps()
	p.add(r, nil, &slowWriter{wait: time.Hour})
	w.WriteString("x")
	w.Close()
	p.cut()
	ends(t, "a drain that was cut", p.drain)
}

func TestSignalsAfterTheEnd(t *testing.T) {
	fd := -1
	cmd := exec.Command("sleep", "100")
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &fd}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pidfd := os.NewFile(uintptr(fd), "pidfd")
	defer pidfd.Close()
	own := 0
	s := &signals{}
	s.pass(unix.SIGTERM) // while it is being started
	s.forward(sendTo(pidfd), func() { own++ })
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGTERM || own != 0 {
		t.Errorf("the process did not get the signal: %v", err)
	}
	s.pass(unix.SIGTERM) // reaped: the number may be another's
	s.pass(unix.SIGUSR1) // never meant for berth
	pidfd.Close()
	s.pass(unix.SIGINT)
	if own != 2 {
		t.Errorf("%d of 2 signals meant berth", own)
	}
}

// A client that was stopped must not keep the end of the container from being recorded.
func TestClientThatDoesNotRead(t *testing.T) {
	h := newHub()
	connect := func() {
		p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		theirs := os.NewFile(uintptr(p[1]), "client")
		t.Cleanup(func() { theirs.Close() })
		h.add(os.NewFile(uintptr(p[0]), "attach"), false)
	}
	connect()
	r, w := pipe(t)
	p := newPumps()
	p.add(r, nil, h.stream(frameStdout))
	go func() {
		for range 100 {
			w.Write(make([]byte, 32<<10))
		}
		w.Close()
	}()
	time.AfterFunc(2*drainGrace, h.dropAll)
	ends(t, "drain", p.drain)
	connect()
	for _, c := range h.all() { // full
		c.f.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		c.w.send(frameStdout, make([]byte, 1<<20))
	}
	ends(t, "the hub", func() { h.end(0, false) })
}
