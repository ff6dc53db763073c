package container

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pumps copy the container's output to the log and to the caller.
type pumps struct {
	wg   sync.WaitGroup
	from []*os.File
	once sync.Once
	over chan struct{}

	mu  sync.Mutex
	err error // the first that kept output from the caller
}

func newPumps() *pumps { return &pumps{over: make(chan struct{})} }

// cut ends a drain at once: what the caller has not read is lost to him.
func (p *pumps) cut() { p.once.Do(func() { close(p.over) }) }

func (p *pumps) add(from *os.File, log *logStream, to io.Writer) {
	if from == nil {
		return
	}
	p.from = append(p.from, from)
	p.wg.Go(func() {
		if log != nil {
			defer log.flush()
		}
		pump(from, func(b []byte) error {
			if log != nil {
				log.Write(b)
			}
			if to == nil {
				return nil
			}
			_, err := to.Write(b)
			p.lost(err)
			return err
		})
	})
}

// lost keeps an error of the caller's streams. That a reader is gone is none:
// pipelines end so (SIGPIPE).
func (p *pumps) lost(err error) {
	if err == nil || errors.Is(err, unix.EPIPE) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
}

// exitCode is that of the process, and berth's own if output got lost.
func (p *pumps) exitCode(code int, err error) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return 125, errors.Join(p.err, err)
	}
	return code, err
}

// pump reads until the end, or until the deadline that drain sets.
func pump(from *os.File, pass func([]byte) error) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && pass(buf[:n]) != nil {
			// the caller's reader is gone: let the container see that, as a
			// program in a pipeline does
			from.Close()
			return
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			remainder(from, buf, pass)
			return
		}
		if err != nil { // EOF, EIO of a terminal
			return
		}
	}
}

// remainder passes on what lies in the pipe now: all that the ended process wrote
// and a slow caller has not taken yet. A terminal shows its buffers bit by bit
// (4 of 64 KiB, drivers/tty/tty_buffer.c).
func remainder(from *os.File, buf []byte, pass func([]byte) error) {
	rounds := 1
	if fi, err := from.Stat(); err == nil && fi.Mode()&os.ModeCharDevice != 0 {
		rounds = 32
	}
	from.SetReadDeadline(time.Time{})
	for range rounds {
		left := unread(from)
		if left == 0 {
			return
		}
		for left > 0 {
			n, err := from.Read(buf[:min(left, len(buf))])
			if err != nil || pass(buf[:n]) != nil {
				return
			}
			left -= n
		}
		if rounds > 1 {
			time.Sleep(time.Millisecond)
		}
	}
}

// unread is how many bytes can be read without waiting. Not by Fd(), which
// would make the descriptor block. TIOCINQ is FIONREAD, which pipes have too.
func unread(f *os.File) (n int) {
	if conn, err := f.SyscallConn(); err == nil {
		conn.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	}
	return max(n, 0)
}

// drainGrace is how long output is waited for after the process has ended: one
// that escaped it may hold the pipe, and write, for ever.
const drainGrace = 250 * time.Millisecond

// drain returns when all output has been passed on, or after cut.
func (p *pumps) drain() {
	end := time.Now().Add(drainGrace)
	for _, f := range p.from {
		f.SetReadDeadline(end)
	}
	done := make(chan struct{})
	go func() { p.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-p.over:
	}
	closeAll(p.from...)
}
