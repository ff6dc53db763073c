package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/engine"
)

// monitorEnv tells the monitor what its first client has: "attach", then
// perhaps "ROWSxCOLUMNS", then perhaps "explain": it wants the steps.
const monitorEnv = "BERTH_MONITOR"

// The descriptors that a monitor inherits.
const (
	readyFD  = 3 // one JSON report, then closed
	attachFD = 4 // with "attach": a socket to the first client
)

// report is what a monitor says once the container runs or failed to start.
type report struct {
	Error string `json:",omitempty"`
	Code  int    `json:",omitempty"`
}

// StartError is a failed start as the monitor reported it.
type StartError struct {
	Text string
	Code int // 125, 126 or 127
}

func (e *StartError) Error() string { return e.Text }

// Is lets errors.Is find what the monitor's own error was.
func (e *StartError) Is(target error) bool {
	return e.Code == 127 && target == engine.ErrNotFound || e.Code == 126 && target == engine.ErrNotExecutable
}

// StartMonitor starts the container in the background: this binary once more,
// in a session of its own, that lives as long as the container. It returns
// when the container runs, or with the reason why it does not.
func (c *Container) StartMonitor(ctx context.Context) error {
	if c.Trace == nil {
		return c.spawn(ctx, "background", nil)
	}
	conn, err := c.spawnFirst(ctx, "attach")
	if err == nil {
		err = conn.Close()
	}
	return err
}

func (c *Container) spawn(ctx context.Context, env string, conn *os.File) error {
	// looked at here, because the monitor cannot fail more gently than with a report
	if st := c.readState(); st.Status != Created {
		if st = c.State(); st.Status == Running || st.Status == Paused {
			return fmt.Errorf("container %s %w already", c.Name, ErrRunning)
		}
	}
	c.Close()
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start the monitor of %s: %w", c.Name, err)
	}
	defer r.Close()
	files := []*os.File{null, null, null, w}
	if conn != nil {
		files = append(files, conn)
	}
	p, err := os.StartProcess("/proc/self/exe", []string{"berth", "--root", c.store.Root, "monitor", c.ID}, &os.ProcAttr{
		Dir: "/", Files: files, Env: append(os.Environ(), monitorEnv+"="+env),
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	w.Close()
	if err != nil {
		return fmt.Errorf("start the monitor of %s: %w", c.Name, err)
	}
	defer p.Release()
	stop := context.AfterFunc(ctx, func() { p.Signal(unix.SIGTERM); r.SetReadDeadline(time.Now()) })
	defer stop()
	b, err := io.ReadAll(r)
	var rep report
	if err == nil {
		err = json.Unmarshal(b, &rep)
	}
	if err != nil {
		return fmt.Errorf("start container %s: its monitor ended without a word: %w", c.Name, err)
	}
	if rep.Error != "" {
		return &StartError{Text: rep.Error, Code: rep.Code}
	}
	return nil
}

// monitor watches one container in the background.
type monitor struct {
	c    *Container
	hub  *hub
	size *specs.Box
	stop chan os.Signal
}

// Monitor is the body of that process: it runs the container, keeps its log,
// serves attach, records the end, cleans up, and follows the restart policy.
func Monitor(root, id string) int {
	os.WriteFile("/proc/self/comm", []byte("berth"), 0) // not the "exe" of /proc/self/exe, for ps and top
	unix.CloseOnExec(readyFD)
	ready := os.NewFile(readyFD, "ready")
	mode, size, _ := strings.Cut(os.Getenv(monitorEnv), " ")
	os.Unsetenv(monitorEnv)
	// caught and dropped, not ignored: an ignored signal stays so through execve
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGPIPE)
	traced := func() {}
	tell := func(err error) {
		traced()
		var rep report
		if err != nil {
			rep = report{Error: err.Error(), Code: StartCode(err)}
		}
		b, _ := json.Marshal(rep)
		ready.Write(b)
		ready.Close()
	}
	s, err := Open(root, nil)
	if err != nil {
		tell(err)
		return 1
	}
	c, err := s.load(id)
	if err != nil {
		tell(err)
		return 1
	}
	m := &monitor{c: c, hub: newHub(), stop: make(chan os.Signal, 1)}
	if mode == "attach" {
		unix.CloseOnExec(attachFD)
		unix.SetNonblock(attachFD, true)
		first := m.hub.add(os.NewFile(attachFD, "attach"), true)
		if strings.HasSuffix(size, "explain") {
			size = strings.TrimSuffix(strings.TrimSuffix(size, "explain"), " ")
			c.Trace = func(step string, err error, took time.Duration) {
				first.send(frameTrace, traceFrame(step, err, took))
			}
			traced = func() { // those of later starts are nobody's
				first.send(frameTrace, nil)
				c.Trace = nil
			}
		}
	}
	m.size = parseBox(size)
	signal.Notify(m.stop, unix.SIGTERM)
	code, err := m.loop(tell)
	m.hub.end(code, c.last)
	if err != nil {
		return 1
	}
	return 0
}

func parseBox(s string) *specs.Box {
	r, c, _ := strings.Cut(s, "x")
	rows, err1 := strconv.ParseUint(r, 10, 16)
	cols, err2 := strconv.ParseUint(c, 10, 16)
	if err1 != nil || err2 != nil {
		return nil
	}
	return &specs.Box{Height: uint(rows), Width: uint(cols)}
}

// loop starts the container as often as its policy wants. tell is called once,
// after the first start.
func (m *monitor) loop(tell func(error)) (int, error) {
	c := m.c
	delay := 100 * time.Millisecond // docker's: doubled with each try, up to a minute
	for first := true; ; first = false {
		r, err := c.launch(context.Background(), stdio{stdin: c.Options.Interactive, size: m.size})
		if err != nil {
			if first && c.Options.Remove {
				err = errors.Join(err, c.Remove(true, true))
			}
			if first {
				tell(err)
			}
			return StartCode(err), err
		}
		m.hub.serve(c, r)
		if first {
			tell(nil)
		}
		exit, err := m.watch(r)
		if err != nil {
			return 125, err
		}
		if m.hub.size != nil {
			m.size = m.hub.size
		}
		again := c.restarts(exit.Code, r.st.RestartCount)
		m.hub.pause()
		if err := r.finish(exit, again); err != nil && !again {
			return exit.Code, err
		}
		if !again || r.st.StopRequested || c.gone {
			return exit.Code, nil
		}
		if time.Since(r.st.StartedAt) > 10*time.Second {
			delay = 100 * time.Millisecond
		}
		if !c.backOff(delay) {
			return exit.Code, nil
		}
		delay = min(2*delay, time.Minute)
	}
}

// watch copies output and waits for the end.
func (m *monitor) watch(r *running) (engine.Exit, error) {
	p := newPumps()
	p.add(r.out, &logStream{log: r.log, name: "stdout"}, m.hub.stream(frameStdout))
	if r.err != nil {
		p.add(r.err, &logStream{log: r.log, name: "stderr"}, m.hub.stream(frameStderr))
	}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-m.stop: // the host shuts down
				sendTo(r.proc.Pidfd)(unix.SIGTERM)
			case <-done:
				return
			}
		}
	}()
	exit, err := r.proc.Wait()
	close(done)
	m.c.killRest()
	m.hub.ended(true)
	p.drain()
	return exit, err
}

// restarts tells whether the policy wants another start after this exit code.
func (c *Container) restarts(code, count int) bool {
	if cur, err := c.store.load(c.ID); err == nil {
		c.Options.Restart = cur.Options.Restart // update may have changed it
	}
	switch policy, tries, _ := restartPolicy(c.Options.Restart); policy {
	case "always", "unless-stopped":
		return true
	case "on-failure":
		return code != 0 && (tries == 0 || count < tries)
	}
	return false
}

// backOff waits before the next try; false if the container was stopped or removed meanwhile.
func (c *Container) backOff(d time.Duration) bool {
	for end := time.Now().Add(d); ; time.Sleep(min(50*time.Millisecond, d)) {
		st := c.readState()
		if st.Status != Restarting {
			return false
		}
		if st.StopRequested {
			if unlock, err := c.lock(); err == nil {
				st.Status = Exited
				c.writeState(st, false)
				unlock()
			}
			return false
		}
		if time.Now().After(end) {
			return true
		}
	}
}
