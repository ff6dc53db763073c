package oci

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/signals"
)

// tty connects a process' terminal with the caller's.
type tty struct {
	master *os.File
	host   *os.File // the caller's terminal, nil: there is none
	old    unix.Termios
	ending atomic.Bool   // the process has ended
	copied chan struct{} // closed when all output has been copied
}

// openTTY begins to copy. The caller's terminal becomes raw: what is typed is
// interpreted by the process' terminal alone.
func openTTY(master *os.File) (*tty, error) {
	t := &tty{master: master, copied: make(chan struct{})}
	// The caller's terminal makes CR LF of LF, and a file gets what was written.
	if err := change(master, func(m *unix.Termios) { m.Oflag &^= unix.ONLCR }); err != nil {
		return nil, fmt.Errorf("set up the terminal: %w", err)
	}
	if t.host = hostTerminal(); t.host != nil {
		if err := t.raw(); err != nil {
			return nil, fmt.Errorf("put the caller's terminal into raw mode: %w", err)
		}
	}
	go func() { io.Copy(master, os.Stdin) }() // the end of input is not that of the terminal
	go t.copyOut(signals.Unbroken(os.Stdout)) // a reader that goes must not end us
	return t, nil
}

// hostTerminal finds the caller's terminal: any of the streams may be redirected,
// or all of them.
func hostTerminal() *os.File {
	for _, f := range []*os.File{os.Stderr, os.Stdout, os.Stdin} {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			return f
		}
	}
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	return f
}

// raw is cfmakeraw(3) but for OPOST: our own messages and what the process
// writes want their line ends as before.
func (t *tty) raw() error {
	return change(t.host, func(m *unix.Termios) {
		t.old = *m
		m.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
		m.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
		m.Cflag = m.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
		m.Cc[unix.VMIN], m.Cc[unix.VTIME] = 1, 0
	})
}

func change(f *os.File, edit func(*unix.Termios)) error {
	return control(f, func(fd int) error {
		m, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return err
		}
		edit(m)
		return unix.IoctlSetTermios(fd, unix.TCSETS, m)
	})
}

// control leaves the descriptor as it is: Fd() would take a deadline from it.
func control(f *os.File, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return errors.Join(conn.Control(func(fd uintptr) { err = do(int(fd)) }), err)
}

// resize gives the process' terminal the size of the caller's. A caller without
// a size (0 x 0) leaves that of the configuration.
func (t *tty) resize() {
	if t == nil || t.host == nil {
		return
	}
	size, err := unix.IoctlGetWinsize(int(t.host.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Row == 0 || size.Col == 0 {
		return
	}
	control(t.master, func(fd int) error { return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, size) })
}

// close copies what the process has written before it ended and gives the
// caller's terminal back. Others may have the process' terminal open still: they
// are heard until they pause.
func (t *tty) close() {
	if t == nil {
		return
	}
	t.ending.Store(true)
	t.master.SetReadDeadline(time.Now().Add(pause))
	<-t.copied
	t.master.Close()
	if t.host != nil {
		change(t.host, func(m *unix.Termios) { *m = t.old })
	}
}

const (
	pause = 100 * time.Millisecond
	rest  = 1 << 20 // bytes, more than a terminal holds
)

// copyOut ends when no process has the terminal open (EIO), or when the process
// has ended and nothing comes any more.
func (t *tty) copyOut(w io.Writer) {
	defer close(t.copied)
	buf := make([]byte, 32<<10)
	for after := 0; after < rest; {
		n, err := t.master.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil && t.ending.Load() {
				return // until then the process must not block for our reader is gone
			}
		}
		if err != nil {
			return
		}
		if t.ending.Load() {
			after += n
			t.master.SetReadDeadline(time.Now().Add(pause))
		}
	}
}
