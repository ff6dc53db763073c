package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// IO is what a foreground call connects to the process. Nil: nothing.
// With a terminal Stdin is put into raw mode when it is one.
type IO struct {
	Stdin          *os.File
	Stdout, Stderr io.Writer
	DetachKeys     string // "" = ctrl-p,ctrl-q
	NoSigProxy     bool
}

// Run starts the container in the foreground and returns its exit code; also
// `start -a`. Without a terminal this process is the parent and watches the
// container itself: no other process, no socket. With one, or with a restart
// policy, a monitor does, so that the user can detach. ErrDetached when the
// user left so; a start that failed has StartCode(err).
func (c *Container) Run(ctx context.Context, s IO) (int, error) {
	if policy, _, _ := restartPolicy(c.Options.Restart); c.Options.TTY || policy != "no" {
		return c.runMonitored(ctx, s)
	}
	sigs := newSignals(!s.NoSigProxy)
	defer sigs.stop()
	start, cancel := context.WithCancel(ctx)
	defer cancel()
	sigs.before(cancel)
	r, err := c.launch(start, stdio{stdin: c.Options.Interactive})
	if err != nil {
		if c.Options.Remove {
			err = errors.Join(err, c.Remove(true, true))
		}
		return StartCode(err), err
	}
	sigs.forward(r.st.Pid)
	if r.in != nil {
		go func() {
			if s.Stdin != nil {
				io.Copy(r.in, s.Stdin)
			}
			r.in.Close()
		}()
	}
	var p pumps
	p.add(r.out, &logStream{log: r.log, name: "stdout"}, s.Stdout)
	p.add(r.err, &logStream{log: r.log, name: "stderr"}, s.Stderr)
	exit, err := r.proc.Wait()
	p.drain()
	return exit.Code, errors.Join(err, r.finish(exit, false))
}

// signals passes what the caller is sent on to the container, as docker does
// without a terminal: all that does not mean berth itself.
type signals struct {
	ch     chan os.Signal
	mu     sync.Mutex
	cancel func()
	pid    int
}

func newSignals(proxy bool) *signals {
	s := &signals{}
	if !proxy {
		return s
	}
	s.ch = make(chan os.Signal, 16)
	signal.Notify(s.ch, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGALRM, unix.SIGPROF, unix.SIGVTALRM)
	go func() {
		for sig := range s.ch {
			s.mu.Lock()
			pid, cancel := s.pid, s.cancel
			s.mu.Unlock()
			switch {
			case pid > 0:
				unix.Kill(pid, sig.(unix.Signal))
			case cancel != nil && sig != unix.SIGUSR1 && sig != unix.SIGUSR2:
				cancel() // not running yet: give up
			}
		}
	}()
	return s
}

func (s *signals) before(cancel func()) {
	s.mu.Lock()
	s.cancel = cancel
	s.mu.Unlock()
}

// forward: the process is there. Its pid cannot be taken by another before
// this process has waited for it.
func (s *signals) forward(pid int) {
	s.mu.Lock()
	s.pid = pid
	s.mu.Unlock()
}

func (s *signals) stop() {
	if s.ch != nil {
		signal.Stop(s.ch)
		close(s.ch)
	}
}

// pumps copy the container's output to the log and to the caller.
type pumps struct {
	wg   sync.WaitGroup
	from []*os.File
	last atomic.Int64 // when there was output, unix nanoseconds
}

func (p *pumps) add(from *os.File, log *logStream, to io.Writer) {
	if from == nil {
		return
	}
	p.from = append(p.from, from)
	p.wg.Go(func() {
		if log != nil {
			defer log.flush()
		}
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			if n > 0 {
				p.last.Store(time.Now().UnixNano())
				if log != nil {
					log.Write(buf[:n])
				}
				if to != nil {
					if _, werr := to.Write(buf[:n]); werr != nil {
						// the caller's reader is gone: let the container see
						// that, as a program in a pipeline does
						from.Close()
						return
					}
				}
			}
			if err != nil { // EOF, EIO of a terminal, the deadline of drain
				return
			}
		}
	})
}

// drainGrace is how long output is waited for after process 1 has ended and
// nothing more came: a process that escaped it may hold the pipe forever.
const drainGrace = 250 * time.Millisecond

func (p *pumps) drain() {
	p.last.Store(time.Now().UnixNano())
	done := make(chan struct{})
	go func() { p.wg.Wait(); close(done) }()
	for {
		select {
		case <-done:
			closeAll(p.from...)
			return
		case <-time.After(drainGrace / 5):
			if time.Since(time.Unix(0, p.last.Load())) > drainGrace {
				for _, f := range p.from {
					f.SetReadDeadline(time.Now())
				}
			}
		}
	}
}

// Why says in one line how it ended, "" when there is nothing to say: the
// answer to "why 137?".
func (c *Container) Why() string {
	st := c.State()
	if st.Status != Exited || st.ExitCode <= 128 {
		return ""
	}
	switch {
	case st.OOMKilled:
		return "out of memory: the kernel killed it at its memory limit of " + fmt.Sprintf("%d bytes", c.Options.Memory)
	case st.ExitCode == 137 && st.StopRequested:
		return "" // asked for
	case st.ExitCode == 137:
		return "killed by SIGKILL, and not at a memory limit: somebody sent the signal, or the host ran out of memory"
	}
	return ""
}
