package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-run/berth/runtime/engine"
)

// ExecOptions are the flags of exec.
type ExecOptions struct {
	Args        []string
	Interactive bool // -i
	TTY         bool // -t
	Detach      bool // -d
	Env         []string
	EnvFile     []string
	User        string
	Workdir     string
	Privileged  bool
}

// Exec runs one more process in the container and returns its exit code; with
// Detach it returns once the process runs.
func (c *Container) Exec(ctx context.Context, o ExecOptions, s IO) (int, error) {
	st := c.State()
	switch {
	case st.Status == Paused:
		return 125, fmt.Errorf("exec: container %s %w, unpause it first", c.Name, ErrPaused)
	case st.Status != Running:
		return 125, fmt.Errorf("exec: container %s %w", c.Name, ErrNotRunning)
	case len(o.Args) == 0:
		return 125, errors.New("exec: no command given")
	}
	p, err := c.execProcess(&o)
	if err != nil {
		return 125, fmt.Errorf("exec in container %s: %w", c.Name, err)
	}
	t := &terminal{fd: -1}
	if o.TTY && !o.Detach {
		if t, err = openTerminal(s, o.Interactive); err != nil {
			return 125, err
		}
		defer t.restore()
		p.ConsoleSize = t.size()
	}
	sigs, err := newProxy(!o.Detach && !o.TTY && !s.NoSigProxy)
	if err != nil {
		return 125, err
	}
	defer sigs.stop()
	e := &execution{o: &o, s: s}
	if err := e.start(ctx, c, st, p); err != nil {
		return StartCode(err), err
	}
	if o.Detach {
		return 0, nil
	}
	return e.run(t, sigs)
}

// execProcess is the OCI process: the container's own with what the flags change.
func (c *Container) execProcess(o *ExecOptions) (*specs.Process, error) {
	id := c.Identity
	if o.User != "" {
		root := &lazyLayers{lower: c.lowerDirs(), upper: c.dir + "/upper"}
		defer root.close()
		m, err := root.open()
		if err != nil {
			return nil, err
		}
		files, err := readUserFiles(m)
		if err != nil {
			return nil, err
		}
		if id, err = files.identity(o.User, nil); err != nil {
			return nil, err
		}
	}
	e := env(append([]string{}, c.Env...))
	if o.User != "" {
		e.set("HOME=" + id.Home)
	}
	if o.TTY {
		e.fallback("TERM=xterm")
	}
	if err := e.callers(o.EnvFile, o.Env); err != nil {
		return nil, err
	}
	cwd, err := workdir(o.Workdir, c.Cwd)
	if err != nil {
		return nil, err
	}
	sec, err := parseSecurity(c.Options.SecurityOpt)
	if err != nil {
		return nil, err
	}
	bound := boundingSet()
	caps, err := capSet(c.Options.CapAdd, c.Options.CapDrop, c.Options.Privileged, bound)
	if err != nil {
		return nil, err
	}
	limits, err := rlimits(c.Options.Ulimits)
	if err != nil {
		return nil, err
	}
	pc := processCaps(caps, id.UID)
	if o.Privileged {
		pc = processCaps(bound, 0)
	}
	return &specs.Process{
		Terminal: o.TTY && !o.Detach, Args: o.Args, Env: e, Cwd: cwd, Capabilities: pc,
		User:            specs.User{UID: id.UID, GID: id.GID, AdditionalGids: id.Groups},
		NoNewPrivileges: sec.noNewPrivs, OOMScoreAdj: c.Options.OOMScoreAdj, Rlimits: limits,
		ApparmorProfile: sec.apparmor,
	}, nil
}

// execution is one exec in the foreground.
type execution struct {
	o    *ExecOptions
	s    IO
	proc *engine.Process
	run0 running // its pipes
}

func (e *execution) start(ctx context.Context, c *Container, st State, p *specs.Process) error {
	dir, err := c.openCgroup()
	if err != nil {
		return err
	}
	if dir != nil {
		defer dir.Close()
	}
	cfg := engine.Config{}
	if !p.Terminal && !e.o.Detach {
		e.run0.c = &Container{}
		child, err := e.run0.pipes(stdio{stdin: e.o.Interactive}, &cfg)
		defer closeAll(child...)
		if err != nil {
			return err
		}
	}
	filter, err := c.filter(true)
	if err != nil {
		return err
	}
	e.proc, err = engine.Exec(ctx, engine.ExecConfig{
		ID: c.ID, Pid: st.Pid, Process: p, Seccomp: filter, Cgroup: dir, Labels: securityLabels(p), Stdin: cfg.Stdin, Stdout: cfg.Stdout, Stderr: cfg.Stderr,
	})
	if err != nil {
		return fmt.Errorf("exec in container %s: %w", c.Name, err)
	}
	if p.Terminal {
		e.run0.in, e.run0.out = e.proc.Console, e.proc.Console
	}
	return nil
}

// run copies the streams until the process ends.
func (e *execution) run(t *terminal, sigs *proxy) (int, error) {
	r := &e.run0
	if e.o.TTY {
		t.watch(func(rows, cols uint16) { setWinsize(r.out, rows, cols) })
	}
	left := make(chan struct{})
	if e.o.Interactive && e.s.Stdin != nil {
		keys, err := parseDetachKeys(e.s.DetachKeys)
		if err != nil {
			return 125, err
		}
		go func() {
			if !e.o.TTY {
				io.Copy(r.in, e.s.Stdin)
				r.in.Close()
			} else if typeInto(r.in, e.s.Stdin, &detachKeys{keys: keys}) {
				close(left)
			}
		}()
	} else if r.in != nil && !e.o.TTY {
		r.in.Close()
	}
	p := newPumps()
	sigs.forward(sendTo(e.proc.Pidfd), p.cut)
	p.add(r.out, nil, e.s.Stdout)
	p.add(r.err, nil, e.s.Stderr)
	type result struct {
		exit engine.Exit
		err  error
	}
	done := make(chan result, 1)
	go func() {
		exit, err := e.proc.Wait()
		done <- result{exit, err}
	}()
	select {
	case <-left:
		return 0, ErrDetached
	case res := <-done:
		p.drain()
		return p.exitCode(res.exit.Code, res.err)
	}
}

// typeInto copies what is typed to the terminal; true when the detach keys came.
func typeInto(to io.Writer, from *os.File, keys *detachKeys) bool {
	buf := make([]byte, 4<<10)
	for {
		n, err := from.Read(buf)
		p, leave := keys.filter(buf[:n])
		if len(p) > 0 {
			if _, err := to.Write(p); err != nil {
				return false
			}
		}
		if leave || err != nil {
			return leave
		}
	}
}
