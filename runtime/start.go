package runtime

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-run/berth/runtime/engine"
	"github.com/berth-run/berth/runtime/seccomp"
)

// Start lets the program be executed; returns when that has happened.
func (c *Container) Start(ctx context.Context) error {
	status, err := c.status()
	if err != nil {
		return err
	}
	switch status {
	case Created:
	case Stopped:
		return errors.New("cannot start a container that has stopped")
	case Running:
		return errors.New("cannot start an already running container")
	default:
		return fmt.Errorf("cannot start a container in the %s state", status)
	}
	pidfd, err := c.pidfd()
	if err != nil {
		return err
	}
	defer pidfd.Close()
	spec, err := c.hooks()
	if err != nil {
		return err
	}
	if err := c.startHooks(ctx, spec); err != nil {
		return errors.Join(err, c.Kill(9, true))
	}
	if err := c.state.Gate.Open(&engine.Process{Pid: c.state.Pid, Pidfd: pidfd}); err != nil {
		var died *engine.DiedError
		if errors.As(err, &died) && c.state.Cgroup.Dir != "" {
			died.Ask(c.state.Cgroup.Dir)
		}
		return startFailed(err)
	}
	if err := c.poststart(ctx, spec); err != nil {
		kill := c.Kill(9, true)
		if errors.Is(kill, ErrNotRunning) { // it has ended by itself
			kill = nil
		}
		return errors.Join(err, kill)
	}
	return nil
}

// hooks is the spec of a container with hooks for later than its creation, nil
// for one without: reading the configuration takes longer than the rest of a start.
func (c *Container) hooks() (*specs.Spec, error) {
	if !c.state.Hooks {
		return nil, nil
	}
	s, err := c.Spec()
	if err != nil {
		return nil, err
	}
	return s, normalise(s, c.state.Bundle)
}

// startHooks run as the program will: as its user, behind its filter.
func (c *Container) startHooks(ctx context.Context, s *specs.Spec) error {
	if s == nil || len(s.Hooks.StartContainer) == 0 {
		return nil
	}
	filter, err := seccomp.Compile(s.Linux.Seccomp, goruntime.GOARCH)
	if err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	for i, h := range s.Hooks.StartContainer {
		p := *s.Process
		p.Terminal, p.Args, p.Env = false, []string{h.Path}, h.Env
		if len(p.Env) == 0 {
			p.Env = s.Process.Env
		}
		setHome(&p, fmt.Sprintf("/proc/%d/root", c.state.Pid))
		cfg := engine.ExecConfig{ID: c.ID, Pid: c.state.Pid, Process: &p, Linux: s.Linux, Seccomp: filter, NoSetgroups: c.state.NoSetgroups}
		if filter != nil && filter.Notify {
			cfg.Notify = c.sendListener(filter)
		}
		if err := c.hookInside(ctx, "startContainer", i, h, cfg, Created); err != nil {
			return err
		}
	}
	return nil
}
