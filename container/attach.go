package container

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// runMonitored starts the container under a monitor and stays as its first
// client, connected before the start, so that nothing that is said gets lost.
func (c *Container) runMonitored(ctx context.Context, s IO) (int, error) {
	t, err := openTerminal(s, false)
	if err != nil {
		return 125, err
	}
	env := "attach"
	if box := t.size(); box != nil {
		env = fmt.Sprintf("attach %dx%d", box.Height, box.Width)
	}
	ours, err := c.spawnFirst(ctx, env)
	if err != nil {
		return StartCode(err), err
	}
	return c.talk(ctx, ours, s, true)
}

// Attach connects to a running container and returns its exit code, or
// ErrDetached after the detach keys.
func (c *Container) Attach(ctx context.Context, s IO) (int, error) {
	switch st := c.State(); st.Status {
	case Running:
	case Paused:
		return 125, fmt.Errorf("attach: container %s %w", c.Name, ErrPaused)
	default:
		return 125, fmt.Errorf("attach: container %s %w", c.Name, ErrNotRunning)
	}
	conn, err := c.dial()
	if err != nil {
		return c.attachLog(ctx, s)
	}
	return c.talk(ctx, conn, s, false)
}

func (c *Container) dial() (*os.File, error) {
	dir, err := unix.Open(c.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, socketAddr(dir)); err != nil {
		unix.Close(fd)
		return nil, err
	}
	unix.SetNonblock(fd, true)
	return os.NewFile(uintptr(fd), "attach"), nil
}

// attachLog stands in when the container is watched by a `run` in the
// foreground, whose streams are its own: output comes from the log, input is not possible.
func (c *Container) attachLog(ctx context.Context, s IO) (int, error) {
	if err := c.Logs(ctx, LogOptions{Tail: 0, Follow: true}, s.Stdout, s.Stderr); err != nil {
		return 125, err
	}
	return c.Wait(ctx)
}

// talk is the client's side of the socket. starter: the container is this call's own.
func (c *Container) talk(ctx context.Context, conn *os.File, s IO, starter bool) (int, error) {
	defer conn.Close()
	w := &frameWriter{w: conn}
	tty := c.Options.TTY
	t, err := openTerminal(s, tty && c.Options.Interactive)
	if err != nil {
		return 125, err
	}
	defer t.restore()
	if tty {
		t.watch(func(rows, cols uint16) { w.send(frameResize, sizeFrame(rows, cols)) })
	}
	keys, err := parseDetachKeys(first(s.DetachKeys, c.Options.DetachKeys))
	if err != nil {
		return 125, err
	}
	if !tty {
		keys = nil
	}
	detached := make(chan struct{})
	if s.Stdin != nil && c.Options.Interactive {
		go func() {
			if sendInput(w, s.Stdin, &detachKeys{keys: keys}) {
				close(detached)
			}
		}()
	}
	sigs, err := newProxy(!s.NoSigProxy)
	if err != nil {
		return 125, err
	}
	defer sigs.stop()
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	sigs.forward(func(sig unix.Signal) bool {
		st := c.State()
		sent, _ := st.send(sig)
		return sent
	}, leave)
	st := State{Status: Exited}
	received := make(chan error, 1)
	go func() { received <- receive(conn, s, &st) }()
	select { // not on the receiver alone: it may be writing to what nobody reads
	case <-detached:
		return 0, ErrDetached
	case <-ctx.Done():
		return 125, ctx.Err()
	case err = <-received:
	}
	var lost *outputError
	if errors.As(err, &lost) {
		return c.unseen(w, conn, lost.err, starter)
	}
	if err != nil {
		return c.Wait(ctx) // the monitor is gone
	}
	return c.told(&st), nil
}

// told keeps the end that the monitor told, should the record be gone.
func (c *Container) told(st *State) int {
	if _, gone := c.store.load(c.ID); gone != nil {
		c.gone, c.last = true, st
	}
	return st.ExitCode
}

// hangupGrace is how long a container may take to end after its terminal hung up.
const hangupGrace = 2 * time.Second

// unseen leaves when output cannot be written. Who attached just goes. With who
// started it goes the terminal, as when its window is closed; a container that
// does not mind, or has a restart policy, lives on.
func (c *Container) unseen(w *frameWriter, conn *os.File, cause error, starter bool) (int, error) {
	code := 128 + int(unix.SIGPIPE)
	if policy, _, _ := restartPolicy(c.Options.Restart); starter && policy == "no" {
		conn.SetDeadline(time.Now().Add(hangupGrace))
		st := State{Status: Exited}
		if w.send(frameHangup, nil) == nil && receive(conn, IO{}, &st) == nil {
			code = c.told(&st)
		}
	}
	if errors.Is(cause, unix.EPIPE) { // its reader has seen enough
		return code, nil
	}
	return 125, cause
}

// sendInput copies what is typed; true when the detach keys came.
func sendInput(w *frameWriter, from io.Reader, keys *detachKeys) bool {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			p, leave := keys.filter(buf[:n])
			if len(p) > 0 && w.send(frameStdin, p) != nil {
				return false
			}
			if leave {
				return true
			}
		}
		if err != nil {
			w.send(frameStdin, nil)
			return false
		}
	}
}

// outputError is that of the caller's stream, not of the socket.
type outputError struct{ err error }

func (e *outputError) Error() string { return e.err.Error() }

// receive copies output until the end of the container comes.
func receive(conn io.Reader, s IO, end *State) error {
	var buf []byte
	for {
		t, p, err := readFrame(conn, &buf)
		if err != nil {
			return err
		}
		var to io.Writer
		switch t {
		case frameStdout:
			to = s.Stdout
		case frameStderr:
			to = s.Stderr
		case frameSkipped:
			if len(p) == 8 && s.Skipped != nil {
				s.Skipped(binary.BigEndian.Uint64(p))
			}
		case frameExit:
			if len(p) == 5 {
				end.ExitCode = int(binary.BigEndian.Uint32(p))
				end.OOMKilled, end.StopRequested = p[4]&exitOOM != 0, p[4]&exitAsked != 0
				return nil
			}
		}
		if to != nil {
			if _, err := to.Write(p); err != nil {
				return &outputError{err}
			}
		}
	}
}
