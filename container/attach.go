package container

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"

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
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 125, fmt.Errorf("attach to %s: %w", c.Name, err)
	}
	theirs := os.NewFile(uintptr(p[1]), "attach")
	unix.SetNonblock(p[0], true)
	ours := os.NewFile(uintptr(p[0]), "attach")
	err = c.spawn(ctx, env, theirs)
	theirs.Close()
	if err != nil {
		ours.Close()
		return StartCode(err), err
	}
	return c.talk(ctx, ours, s)
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
	return c.talk(ctx, conn, s)
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

// talk is the client's side of the socket.
func (c *Container) talk(ctx context.Context, conn *os.File, s IO) (int, error) {
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
				conn.Close()
			}
		}()
	}
	sigs := newSignals(!s.NoSigProxy)
	defer sigs.stop()
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	sigs.forward(func(sig unix.Signal) bool {
		st := c.State()
		sent, _ := st.send(sig)
		return sent
	}, leave)
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	st := State{Status: Exited}
	err = receive(conn, s, &st)
	select {
	case <-detached:
		return 0, ErrDetached
	default:
	}
	if err == nil {
		if _, gone := c.store.load(c.ID); gone != nil {
			c.gone, c.last = true, &st
		}
		return st.ExitCode, nil
	}
	if ctx.Err() != nil {
		return 125, ctx.Err()
	}
	return c.Wait(ctx) // the monitor is gone
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
		case frameExit:
			if len(p) == 5 {
				end.ExitCode, end.OOMKilled = int(binary.BigEndian.Uint32(p)), p[4] == 1
				return nil
			}
		}
		if to != nil {
			if _, err := to.Write(p); err != nil {
				return err
			}
		}
	}
}
