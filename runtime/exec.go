package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	goruntime "runtime"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/cgroups"
	"github.com/berth-run/berth/runtime/engine"
	"github.com/berth-run/berth/runtime/seccomp"
)

// ExecOptions is one more process for a container.
type ExecOptions struct {
	Process *specs.Process // whole: Args, Cwd, Env, User …; see Container.ExecProcess

	Stdin, Stdout, Stderr *os.File

	ConsoleSocket string
	PidfdSocket   string
	PidFile       string
	Cgroup        string // below the container's own, "" that itself
	PreserveFDs   int
	IgnorePaused  bool
}

// ExecProcess is the process of the spec without arguments, as a base for ExecOptions.Process.
func (c *Container) ExecProcess() (*specs.Process, error) {
	s, err := c.Spec()
	if err != nil {
		return nil, err
	}
	p := *s.Process
	p.Args = nil
	return &p, nil
}

// Exec starts one more process and returns when its program has been executed.
func (c *Container) Exec(ctx context.Context, o ExecOptions) (*engine.Process, error) {
	status, err := c.status()
	if err != nil {
		return nil, err
	}
	switch {
	case status == Stopped:
		return nil, errors.New("cannot exec in a stopped container")
	case status == Paused && !o.IgnorePaused:
		return nil, errors.New("cannot exec in a paused container (use --ignore-paused to override)")
	}
	target, err := c.pidfd()
	if err != nil {
		return nil, err
	}
	defer target.Close()
	spec, err := c.Spec()
	if err != nil {
		return nil, err
	}
	cfg, err := c.execConfig(spec, &o)
	if err != nil {
		return nil, err
	}
	cfg.Target = target
	if cfg.Cgroup, err = c.execCgroup(o.Cgroup); err != nil {
		return nil, err
	}
	if cfg.Cgroup != nil {
		defer cfg.Cgroup.Close()
	}
	p, err := engine.ExecWarn(ctx, cfg, func(text string) { c.store.warn("%s", text) })
	if err != nil {
		if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EOPNOTSUPP) {
			return nil, fmt.Errorf("error adding pid of the process to cgroups: %w", err)
		}
		return nil, startFailed(err)
	}
	if err := deliver(p, o.ConsoleSocket, o.PidfdSocket, o.PidFile); err != nil {
		p.Kill()
		p.Wait()
		return nil, err
	}
	return p, nil
}

func (c *Container) execConfig(spec *specs.Spec, o *ExecOptions) (engine.ExecConfig, error) {
	p := *o.Process
	cfg := engine.ExecConfig{ID: c.ID, Pid: c.state.Pid, Process: &p, Linux: spec.Linux, Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr,
		PlainLF: o.ConsoleSocket == "", NoNewKeyring: c.state.NoNewKeyring, NoSetgroups: c.state.NoSetgroups, PreserveFDs: o.PreserveFDs}
	if p.Cwd == "" {
		p.Cwd = "/"
	}
	var err error
	if cfg.Seccomp, err = seccomp.Compile(spec.Linux.Seccomp, goruntime.GOARCH); err != nil {
		return cfg, fmt.Errorf("seccomp: %w", err)
	}
	if cfg.Seccomp != nil && cfg.Seccomp.Notify {
		cfg.Notify = c.sendListener(cfg.Seccomp)
	}
	if cfg.Labels, err = labels(p.ApparmorProfile, p.SelinuxLabel); err != nil {
		return cfg, err
	}
	if c.state.Resctrl != nil {
		cfg.Resctrl = *c.state.Resctrl
	}
	setHome(&p, fmt.Sprintf("/proc/%d/root", c.state.Pid))
	return cfg, nil
}

// execCgroup is where the process begins; nil for a container without a cgroup.
func (c *Container) execCgroup(sub string) (*os.File, error) {
	dir := c.state.Cgroup.Dir
	if dir == "" {
		return nil, nil
	}
	f, err := cgroups.OpenExec(dir, sub, c.state.Pid)
	if err != nil {
		return nil, fmt.Errorf("open the container's cgroup: %w", err)
	}
	return f, nil
}
