package runtime

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/cgroups"
	"github.com/berth-run/berth/runtime/engine"
)

func TestLife(t *testing.T) {
	b := newBox(t)
	b.spec.Annotations = map[string]string{"k": "v"}
	b.sh("echo here; exit 7")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	o := b.options()
	o.Stdout, o.PidFile = w, filepath.Join(t.TempDir(), "pid")
	c, err := b.store.Create(t.Context(), b.id("life"), o)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	b.status(c, Created)
	s, err := c.State()
	if err != nil || s.ID != c.ID || s.Bundle != b.bundle || s.Rootfs != b.root() || s.Pid != c.Process().Pid ||
		s.Version != specs.Version || s.Annotations["k"] != "v" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := time.Parse(time.RFC3339Nano, s.Created); err != nil {
		t.Error(err)
	}
	if pid, _ := os.ReadFile(o.PidFile); string(pid) != strconv.Itoa(s.Pid) {
		t.Errorf("pid file %q", pid)
	}
	if fi, err := os.Stat(c.dir); err != nil || fi.Mode().Perm() != 0o711 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	if _, err := b.store.Create(t.Context(), c.ID, b.options()); err != ErrExist {
		t.Errorf("the same id again: %v", err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(r)
	if exit, err := c.Wait(); err != nil || exit.Code != 7 || string(text) != "here\n" {
		t.Errorf("%v, %v, %q", exit, err, text)
	}
	b.status(c, Stopped)
	if err := c.Kill(unix.SIGTERM, false); err != ErrNotRunning {
		t.Errorf("kill of a stopped one: %v", err)
	}
	if err := c.Start(t.Context()); err == nil || err.Error() != "cannot start a container that has stopped" {
		t.Errorf("start of a stopped one: %v", err)
	}
	if _, _, err := b.exec(c, nil, "true"); err == nil || err.Error() != "cannot exec in a stopped container" {
		t.Errorf("exec in a stopped one: %v", err)
	}
	if err := c.Delete(t.Context(), false); err != nil {
		t.Error(err)
	}
	b.gone(c)
	if _, err := b.store.Load(c.ID); err != ErrNotExist {
		t.Error(err)
	}
}

func TestRun(t *testing.T) {
	b := newBox(t)
	b.prints("echo $$; cat /proc/sys/kernel/hostname; pwd; echo $HOME", "1\nbox\n/\n/\n")
	b.sh("kill -9 $$; sleep 1")
	b.without(specs.PIDNamespace)
	if _, exit, err := b.output(b.options()); err != nil || exit != (engine.Exit{Code: 137, Signaled: true}) {
		t.Errorf("%v, %v", exit, err)
	}
}

func TestSecondStart(t *testing.T) {
	b := newBox(t)
	c := b.started("c")
	b.status(c, Running)
	if err := c.Start(t.Context()); err == nil || err.Error() != "cannot start an already running container" {
		t.Error(err)
	}
	if err := c.Delete(t.Context(), false); err == nil || err.Error() != "cannot delete container "+c.ID+" that is not stopped: running" {
		t.Error(err)
	}
}

func TestProgramsThatCannotBeExecuted(t *testing.T) {
	b := newBox(t)
	for name, text := range map[string]string{"noexec": "\x01\x02", "script": "#!/no/such\n"} {
		if err := os.WriteFile(b.root()+"/bin/"+name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.WriteFile(b.root()+"/bin/plain", []byte("x"), 0o644)
	for arg, want := range map[string]string{
		"none":       `unable to start container process: exec: "none": executable file not found in $PATH`,
		"/bin/none":  `unable to start container process: exec: "/bin/none": stat /bin/none: no such file or directory`,
		"/bin/plain": `unable to start container process: exec: "/bin/plain": permission denied`,
	} {
		b.spec.Process.Args = []string{arg}
		b.refused(want)
	}
	for arg, want := range map[string]string{"/bin/noexec": "exec /bin/noexec: exec format error", "/bin/script": "exec /bin/script: no such file or directory", "script": "exec /bin/script: no such file or directory"} {
		b.spec.Process.Args = []string{arg}
		_, _, err := b.output(b.options())
		var x *ExecveError
		var s *engine.StartError
		if !errors.As(err, &x) || err.Error() != want || !errors.As(err, &s) {
			t.Errorf("%s: %v", arg, err)
		}
		c := b.create("start") // there and executable, as far as can be seen
		if err := c.Start(t.Context()); err == nil || err.Error() != want {
			t.Errorf("start of %s: %v", arg, err)
		}
		b.ended(c)
		c.Wait()
		b.status(c, Stopped)
		b.delete(c)
	}
}

func TestExec(t *testing.T) {
	b := newBox(t)
	c := b.create("c")
	for _, state := range []string{Created, Running} {
		b.status(c, state)
		out, exit, err := b.exec(c, nil, "sh", "-c", "cat /proc/sys/kernel/hostname; cat /proc/self/cgroup | grep ^0; exit 5")
		if err != nil || exit.Code != 5 || out != "box\n0::/\n" {
			t.Errorf("%s: %q, %v, %v", state, out, exit, err)
		}
		if state == Created {
			if err := c.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, _, err := b.exec(c, nil, "none")
	if err == nil || err.Error() != `unable to start container process: exec: "none": executable file not found in $PATH` {
		t.Error(err)
	}
	pidFile := filepath.Join(t.TempDir(), "pid")
	out, _, err := b.exec(c, func(o *ExecOptions) {
		o.Process.User, o.Process.Cwd, o.Process.Env, o.PidFile = specs.User{UID: 7, GID: 8, AdditionalGids: []uint32{9}}, "/etc", []string{"PATH=/bin", "A=b"}, pidFile
	}, "sh", "-c", "pwd; id -u; id -g; id -G; echo $A; grep CapEff /proc/self/status")
	if want := "/etc\n7\n8\n8 9\nb\nCapEff:\t0000000000000000\n"; err != nil || out != want {
		t.Errorf("%q, %v; want %q", out, err, want)
	}
	if pid, err := os.ReadFile(pidFile); err != nil || len(pid) == 0 {
		t.Errorf("%q, %v", pid, err)
	}
	if _, _, err := b.exec(c, func(o *ExecOptions) { o.Cgroup = "../.." }, "true"); err == nil {
		t.Error("a cgroup above the container's own was entered")
	}
}

func TestExecTerminal(t *testing.T) {
	b := newBox(t)
	c := b.started("c")
	p, _ := c.ExecProcess()
	p.Args, p.Terminal, p.ConsoleSize = []string{"sh", "-c", "test -t 0 && test -t 1 && echo tty"}, true, &specs.Box{Height: 9, Width: 8}
	e, err := c.Exec(t.Context(), ExecOptions{Process: p})
	if err != nil {
		t.Fatal(err)
	}
	ws, err := unix.IoctlGetWinsize(int(e.Console.Fd()), unix.TIOCGWINSZ)
	if err != nil || ws.Row != 9 || ws.Col != 8 {
		t.Errorf("%v, %v", ws, err)
	}
	text, _ := io.ReadAll(e.Console) // ends with EIO
	e.Console.Close()
	if exit, err := e.Wait(); err != nil || exit.Code != 0 || strings.TrimSpace(string(text)) != "tty" {
		t.Errorf("%q, %v, %v", text, exit, err)
	}
}

func TestPaused(t *testing.T) {
	b := newBox(t)
	c := b.started("c")
	if err := c.Resume(); err != ErrNotPaused {
		t.Error(err)
	}
	if err := c.Pause(); err != nil {
		t.Fatal(err)
	}
	b.status(c, Paused)
	if _, _, err := b.exec(c, nil, "true"); err == nil || !strings.HasPrefix(err.Error(), "cannot exec in a paused container") {
		t.Error(err)
	}
	if err := c.Pause(); err != ErrNotRunning {
		t.Error(err)
	}
	if err := c.Resume(); err != nil {
		t.Fatal(err)
	}
	b.status(c, Running)
	if err := c.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := c.Kill(unix.SIGKILL, false); err != nil { // and not when it is resumed
		t.Error(err)
	}
	b.ended(c)
	c.Wait()
}

func TestCreatedTakesSigterm(t *testing.T) {
	b := newBox(t)
	c := b.create("c")
	if err := c.Kill(unix.SIGTERM, false); err != nil {
		t.Fatal(err)
	}
	if exit, err := c.Wait(); err != nil || exit.Code != 143 {
		t.Errorf("%v, %v", exit, err)
	}
	b.status(c, Stopped)
}

func TestKillAll(t *testing.T) {
	for _, shared := range []bool{false, true} {
		b := newBox(t)
		if shared {
			b.without(specs.PIDNamespace)
		}
		b.sh("trap 'echo first; exit 3' USR1; (trap 'echo second; exit' USR1; touch /tmp/ready; while :; do sleep 0.01; done) & while :; do sleep 0.01; done")
		r, w, _ := os.Pipe()
		o := b.options()
		o.Stdout = w
		c, err := b.store.Run(t.Context(), b.id("c"), o)
		w.Close()
		if err != nil {
			t.Fatal(err)
		}
		b.within("the second process", func() bool { return exists(b.root() + "/tmp/ready") })
		os.Remove(b.root() + "/tmp/ready")
		if err := c.Kill(unix.SIGUSR1, true); err != nil {
			t.Error(err)
		}
		text, _ := io.ReadAll(r)
		r.Close()
		if exit, err := c.Wait(); err != nil || exit.Code != 3 || !strings.Contains(string(text), "first") || !strings.Contains(string(text), "second") && shared {
			t.Errorf("shared %v: %q, %v, %v", shared, text, exit, err)
		}
		b.delete(c)
	}
}

// Without a pid namespace nothing but the cgroup holds them together.
func TestSharedPidNamespaceEndsWhole(t *testing.T) {
	b := newBox(t)
	b.without(specs.PIDNamespace)
	b.sh("sleep 100 & touch /tmp/ready; exec sleep 100")
	c := b.started("kill")
	b.within("the second process", func() bool { l, _ := c.Processes(); return len(l) == 2 })
	if err := c.Kill(unix.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	b.within("the end of all", func() bool { l, _ := c.Processes(); return len(l) == 0 })
	c.Wait()
	b.delete(c)
	// The first ends by itself, the others stay: they go with the container.
	b.sh("sleep 100 & exit 0")
	c = b.started("leave")
	c.Wait()
	pids, err := cgroups.Procs(c.state.Cgroup.Dir)
	if err != nil || len(pids) != 1 {
		t.Fatalf("%v, %v", pids, err)
	}
	b.status(c, Stopped)
	if err := c.Kill(unix.SIGTERM, true); err != nil {
		t.Error(err)
	}
	if err := c.Delete(t.Context(), false); err != nil {
		t.Error(err)
	}
	b.gone(c)
	if _, ok := engine.ProcessStart(pids[0]); ok {
		t.Error("its process is left")
	}
}

func TestDeleteByForceInEachState(t *testing.T) {
	for _, state := range []string{Created, Running, Paused, Stopped} {
		b := newBox(t)
		c := b.create("c")
		var err error
		if state != Created {
			err = c.Start(t.Context())
		}
		switch state {
		case Paused:
			err = errors.Join(err, c.Pause())
		case Stopped:
			err = errors.Join(err, c.Kill(unix.SIGKILL, false))
			c.Wait()
		}
		if err != nil {
			t.Fatal(err)
		}
		b.status(c, state)
		again, err := b.store.Load(c.ID) // nothing of the process that made it is needed
		if err != nil {
			t.Fatal(err)
		}
		b.delete(again)
	}
}

// begun takes a container back to before its process was there.
func begun(c *Container) error {
	return errors.Join(os.Remove(c.path(stateFile)), c.saveNew(creatingFile))
}

// What a process that is killed while it creates may leave.
func TestDeleteOfHalfACreation(t *testing.T) {
	b := newBox(t)
	whole := b.started("c")
	for what, spoil := range map[string]func(c *Container) error{
		"no state":         func(c *Container) error { return os.Remove(c.path(stateFile)) },
		"no configuration": func(c *Container) error { return os.Remove(c.path(specFile)) },
		"no process":       func(c *Container) error { c.state.Pid = 0; return begun(c) },
		"no cgroup": func(c *Container) error {
			c.state.Pid = 0
			return errors.Join(c.state.Cgroup.Manager().Remove(), begun(c))
		},
		"still creating": func(c *Container) error { c.state.Gate = nil; return errors.Join(c.save(), c.saveNew(creatingFile)) },
		"an empty state": func(c *Container) error {
			return errors.Join(c.saveNew(creatingFile), os.Truncate(c.path(stateFile), 0))
		},
		"nothing but an empty file": func(c *Container) error {
			c.Kill(unix.SIGKILL, false)
			return errors.Join(c.state.Cgroup.Manager().Remove(), begun(c), os.Truncate(c.path(creatingFile), 0), os.RemoveAll(c.path("start")), os.RemoveAll(c.path(specFile)))
		},
		"a half file": func(c *Container) error { return os.WriteFile(c.path(stateFile+".new"), []byte("{"), 0o600) },
	} {
		c := b.create("half")
		if err := spoil(c); err != nil {
			t.Fatal(what, err)
		}
		again, err := b.store.Load(c.ID)
		if errors.Is(err, ErrNotExist) && what == "no state" {
			err = b.store.DeleteLeftovers(t.Context(), c.ID)
			c.Delete(t.Context(), true)
		} else if err == nil {
			err = again.Delete(t.Context(), true)
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		b.gone(c)
		c.Wait()
	}
	b.status(whole, Running)
}

// A start that is killed after it let the program go leaves the FIFO.
func TestStartedWithItsFIFOLeft(t *testing.T) {
	b := newBox(t)
	c := b.started("c")
	if err := unix.Mkfifo(c.path("start"), 0o622); err != nil {
		t.Fatal(err)
	}
	b.status(c, Running)
	done := make(chan error, 1)
	go func() { done <- c.Start(context.Background()) }()
	select {
	case err := <-done:
		if err == nil || err.Error() != "cannot start an already running container" {
			t.Error(err)
		}
	case <-time.After(time.Second):
		t.Error("a second start waits for ever")
	}
}

func TestCancelledCreate(t *testing.T) {
	b := newBox(t)
	stop := 0
	b.spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sleep", Args: []string{"sleep", "100"}, Timeout: &stop}}}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	b.spec.Hooks.CreateRuntime[0].Timeout = nil
	_, err := b.store.Create(ctx, b.id("c"), b.options())
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 2*time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	if left, _ := os.ReadDir(b.store.Root); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestListAndLeftovers(t *testing.T) {
	b := newBox(t)
	c, d := b.create("c"), b.create("b")
	l, err := b.store.List()
	if err != nil || len(l) != 2 || l[0].ID != d.ID || l[1].ID != c.ID {
		t.Errorf("%v, %v", l, err)
	}
	if _, err := l[0].Wait(); err == nil {
		t.Error("who has not created it cannot wait for it")
	}
	if err := b.store.DeleteLeftovers(t.Context(), b.id("unknown")); err != nil {
		t.Error(err)
	}
}

func TestPrepareMayChangeTheSpec(t *testing.T) {
	b := newBox(t)
	o := b.options()
	o.Prepare = func(dir string, s *specs.Spec) error {
		s.Process.Args = []string{"sh", "-c", "cat /x/y"}
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Source: dir + "/made", Type: "bind", Options: []string{"bind", "ro"}})
		return errors.Join(os.Mkdir(dir+"/made", 0o755), os.WriteFile(dir+"/made/y", []byte("prepared"), 0o644))
	}
	if out, _, err := b.output(o); err != nil || out != "prepared" {
		t.Errorf("%q, %v", out, err)
	}
	o = b.options()
	o.Prepare = func(string, *specs.Spec) error { return errors.New("not today") }
	if _, _, err := b.output(o); err == nil || err.Error() != "not today" {
		t.Error(err)
	}
}
