package container

import (
	"fmt"
	"os"
	"os/signal"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal is the caller's, made raw for as long as the container has it.
type terminal struct {
	fd    int
	old   *term.State
	winch chan os.Signal
}

// openTerminal puts s.Stdin into raw mode if it is a terminal; else it only
// stands for the size of one that another stream may be.
func openTerminal(s IO, raw bool) (*terminal, error) {
	t := &terminal{fd: -1}
	files := []*os.File{s.Stdin}
	if f, ok := s.Stdout.(*os.File); ok {
		files = append(files, f)
	}
	for _, f := range files {
		if f != nil && term.IsTerminal(int(f.Fd())) {
			t.fd = int(f.Fd())
			break
		}
	}
	if raw && s.Stdin != nil && term.IsTerminal(int(s.Stdin.Fd())) {
		old, err := term.MakeRaw(t.fd)
		if err != nil {
			return nil, fmt.Errorf("put the terminal into raw mode: %w", err)
		}
		t.old = old
	}
	return t, nil
}

// size is nil if the caller has no terminal.
func (t *terminal) size() *specs.Box {
	if t.fd < 0 {
		return nil
	}
	w, err := unix.IoctlGetWinsize(t.fd, unix.TIOCGWINSZ)
	if err != nil || w.Row == 0 || w.Col == 0 {
		return nil
	}
	return &specs.Box{Height: uint(w.Row), Width: uint(w.Col)}
}

// watch calls f with the size now and after each change.
func (t *terminal) watch(f func(rows, cols uint16)) {
	if t.fd < 0 {
		return
	}
	t.winch = make(chan os.Signal, 1)
	signal.Notify(t.winch, unix.SIGWINCH)
	go func() {
		for {
			if s := t.size(); s != nil {
				f(uint16(s.Height), uint16(s.Width))
			}
			if _, ok := <-t.winch; !ok {
				return
			}
		}
	}()
}

// setWinsize sets the size of a container's terminal. Not by Fd(): that would
// make the descriptor block and take the deadlines away from its reader.
func setWinsize(f *os.File, rows, cols uint16) {
	if conn, err := f.SyscallConn(); err == nil {
		conn.Control(func(fd uintptr) {
			unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
		})
	}
}

// restore gives the terminal back as it was; safe to call twice.
func (t *terminal) restore() {
	if t.winch != nil {
		signal.Stop(t.winch)
		close(t.winch)
		t.winch = nil
	}
	if t.old != nil {
		term.Restore(t.fd, t.old)
		t.old = nil
	}
}

// detachKeys finds the key sequence in what is typed. Keys that turn out not
// to be the sequence are passed on.
type detachKeys struct {
	keys []byte
	at   int
}

// parseDetachKeys reads "ctrl-p,ctrl-q", "a,b", "ctrl-@"; "" is the default.
func parseDetachKeys(s string) ([]byte, error) {
	if s == "" {
		return []byte{16, 17}, nil
	}
	var keys []byte
	for k := range strings.SplitSeq(s, ",") {
		ctrl, ok := strings.CutPrefix(k, "ctrl-")
		switch {
		case !ok && len(k) == 1:
			keys = append(keys, k[0])
		case ok && len(ctrl) == 1 && (ctrl[0] >= 'a' && ctrl[0] <= 'z' || ctrl[0] >= '@' && ctrl[0] <= '_'):
			keys = append(keys, ctrl[0]&0x1f)
		default:
			return nil, fmt.Errorf("invalid detach keys %q", s)
		}
	}
	return keys, nil
}

// filter returns what of p is to be passed on, and true after the last key.
func (d *detachKeys) filter(p []byte) ([]byte, bool) {
	if len(d.keys) == 0 {
		return p, false
	}
	var out []byte
	for _, c := range p {
		if c == d.keys[d.at] {
			if d.at++; d.at == len(d.keys) {
				return out, true
			}
			continue
		}
		out = append(out, d.keys[:d.at]...)
		d.at = 0
		if c == d.keys[0] {
			d.at = 1
			continue
		}
		out = append(out, c)
	}
	return out, false
}
