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
	s := &proxy{}
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

// A client that does not read keeps neither the container nor its end waiting.
func TestClientThatDoesNotRead(t *testing.T) {
	for _, first := range []bool{false, true} {
		h := newHub()
		p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		theirs := os.NewFile(uintptr(p[1]), "client")
		defer theirs.Close()
		h.add(os.NewFile(uintptr(p[0]), "attach"), first)
		to := h.stream(frameStdout)
		flood := func() {
			for range 100 {
				to.Write(make([]byte, 32<<10))
			}
		}
		if first { // which holds a running container back, but not its end
			done := make(chan struct{})
			go func() { flood(); close(done) }()
			select {
			case <-done:
				t.Error("the one that is to get all does not hold back")
			case <-time.After(100 * time.Millisecond):
			}
			h.ended(true)
			ends(t, "the flood", func() { <-done })
			theirs.Close()
		} else {
			ends(t, "the flood", flood)
		}
		ends(t, "the hub", func() { h.end(0, nil) })
	}
}

// What is left out for a slow client is told to it.
func TestClientIsToldOfWhatItMissed(t *testing.T) {
	r, w := pipe(t)
	c := newClient(w, false)
	p := make([]byte, maxWaiting)
	c.output(frameStdout, p)
	c.output(frameStdout, p[:10])
	go c.write()
	var got []byte
	var missed uint64
	go func() {
		for {
			c.mu.Lock()
			empty := len(c.queue) == 0
			c.mu.Unlock()
			if empty {
				break
			}
			time.Sleep(time.Millisecond)
		}
		c.output(frameStdout, []byte("new"))
		c.bye(frameExit, make([]byte, 5))
	}()
	var out bytes.Buffer
	var st State
	ends(t, "receive", func() {
		if err := receive(r, IO{Stdout: &out, Skipped: func(n uint64) { missed += n }}, &st); err != nil {
			t.Error(err)
		}
	})
	got = out.Bytes()
	if missed != 10 || len(got) != maxWaiting+3 || string(got[maxWaiting:]) != "new" {
		t.Errorf("got %d bytes and the word of %d missed", len(got), missed)
	}
}

func TestOutputThatCannotBeWritten(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{{unix.ENOSPC, 125}, {unix.EPIPE, 7}} {
		r, w := pipe(t)
		p := newPumps()
		p.add(r, nil, failing{c.err})
		w.WriteString("x")
		w.Close()
		ends(t, "drain", p.drain)
		if code, err := p.exitCode(7, nil); code != c.code || (err != nil) != (code == 125) {
			t.Errorf("%v: exit code %d, %v", c.err, code, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
