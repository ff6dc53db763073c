package signals

import (
	"errors"
	"os"
	"os/signal"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// next fails rather than to wait for ever.
func next(t *testing.T, c *Catcher) unix.Signal {
	t.Helper()
	c.r.SetReadDeadline(time.Now().Add(10 * time.Second))
	s, err := c.Next()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func raise(t *testing.T, s unix.Signal) {
	t.Helper()
	if err := unix.Kill(os.Getpid(), s); err != nil {
		t.Fatal(err)
	}
}

func TestCatch(t *testing.T) {
	c, err := Catch()
	if err != nil {
		t.Fatal(err)
	}
	for s := unix.Signal(1); s <= lastSignal; s++ {
		if ofGo(s) || isFault(s) {
			continue
		}
		raise(t, s)
		if got := next(t, c); got != s {
			t.Errorf("signal %d came as %d", s, got)
		}
	}
	if _, err := Catch(); !errors.Is(err, ErrBusy) {
		t.Errorf("a second one: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.Next(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestFault: those that Go needs are passed on as well, and Go's panics stay.
func TestFault(t *testing.T) {
	c, err := Catch()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	time.Sleep(5 * faultLater)
	raise(t, unix.SIGSEGV)
	if got := next(t, c); got != unix.SIGSEGV {
		t.Errorf("came as %d", got)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		var p *int
		*p = 1
	}()
}

// TestGivenBack: after Close os/signal has the signals as before.
func TestGivenBack(t *testing.T) {
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, unix.SIGUSR1)
	defer signal.Stop(ch)
	c, err := Catch(unix.SIGUSR1)
	if err != nil {
		t.Fatal(err)
	}
	raise(t, unix.SIGUSR1)
	if got := next(t, c); got != unix.SIGUSR1 {
		t.Errorf("came as %d", got)
	}
	c.Close()
	raise(t, unix.SIGUSR1)
	select {
	case <-ch:
	case <-time.After(10 * time.Second):
		t.Error("os/signal has not got it")
	}
	if len(ch) != 0 {
		t.Error("os/signal got the first one, too")
	}
}

// TestMany: the handler may interrupt anything, on any thread.
func TestMany(t *testing.T) {
	c, err := Catch(unix.SIGUSR2)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	stop := make(chan bool)
	for range 4 {
		go func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					_ = make([]byte, n%5000)
				}
			}
		}()
	}
	for range 2000 {
		raise(t, unix.SIGUSR2)
	}
	close(stop)
	if got := next(t, c); got != unix.SIGUSR2 {
		t.Errorf("came as %d", got)
	}
}

// TestNumberIsKept: a handler that outlives its Catcher writes to no file that was
// opened since, and a second Close leaves the next Catcher alone.
func TestNumberIsKept(t *testing.T) {
	c, err := Catch(unix.SIGUSR1)
	if err != nil {
		t.Fatal(err)
	}
	number := pipe
	c.Close()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if int64(f.Fd()) == number {
		t.Errorf("another file has number %d, to which a handler may write yet", number)
	}
	d, err := Catch(unix.SIGUSR1)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Catch(); !errors.Is(err, ErrBusy) {
		t.Errorf("a second one, after another's second Close: %v", err)
	}
	raise(t, unix.SIGUSR1)
	if got := next(t, d); got != unix.SIGUSR1 || pipe != number {
		t.Errorf("signal %d by pipe %d, want it by %d", got, pipe, number)
	}
	if flags, err := unix.FcntlInt(uintptr(pipe), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("a full pipe would hold up the handler: %#x, %v", flags, err)
	}
}
