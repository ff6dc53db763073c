package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-run/berth/coldjson"
	"github.com/berth-run/berth/runtime/engine"
)

// mountedHooks runs what belongs between the making of the namespaces and the
// entering of the root: the first two kinds outside, the third in the
// container's namespaces with the host's tree still there.
func (m *maker) mountedHooks(ctx context.Context, pid int) error {
	if err := m.note(pid); err != nil {
		return err
	}
	h := m.spec.Hooks
	for _, k := range []struct {
		name string
		list []specs.Hook
	}{{"prestart", prestart(h)}, {"createRuntime", h.CreateRuntime}} {
		if err := m.outside(ctx, k.name, k.list, Creating); err != nil {
			return err
		}
	}
	return m.inside(ctx, "createContainer", h.CreateContainer, Creating, m.spec.Root.Path)
}

// prestart hooks are deprecated, and still what docker uses.
func prestart(h *specs.Hooks) []specs.Hook {
	//lint:ignore SA1019 see above
	return h.Prestart
}

func (c *Container) poststart(ctx context.Context, s *specs.Spec) error {
	if s == nil || s.Hooks == nil {
		return nil
	}
	return c.outside(ctx, "poststart", s.Hooks.Poststart, Running)
}

// hookState is what a hook reads from its standard input.
func (c *Container) hookState(status string) ([]byte, error) {
	pid := c.state.Pid
	if status == Stopped {
		pid = 0
	}
	return coldjson.Marshal(&specs.State{Version: specs.Version, ID: c.ID, Status: specs.ContainerState(status), Pid: pid,
		Bundle: c.state.Bundle, Annotations: c.state.Notes})
}

// outside runs hooks in the caller's namespaces.
func (c *Container) outside(ctx context.Context, kind string, list []specs.Hook, status string) error {
	for i, h := range list {
		in, err := c.hookState(status)
		if err != nil {
			return err
		}
		ctx, cancel := withTimeout(ctx, h.Timeout)
		var out, errs bytes.Buffer
		cmd := exec.CommandContext(ctx, h.Path)
		cmd.Args, cmd.Env, cmd.Dir = h.Args, h.Env, c.state.Bundle
		if len(cmd.Args) == 0 {
			cmd.Args = []string{h.Path}
		}
		if cmd.Env == nil {
			cmd.Env = []string{} // nothing of the caller's
		}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errs
		cmd.WaitDelay = time.Second // a hook's own children may hold its streams
		err = cmd.Run()
		switch {
		case ctx.Err() != nil: // "signal: killed" would not tell who did it
			err = ctx.Err()
		case errors.Is(err, exec.ErrWaitDelay):
			err = nil
		}
		cancel()
		if err != nil {
			return hookError(kind, i, err, out.String(), errs.String())
		}
	}
	return nil
}

// hookFailed is a hook that failed, in runc's words. One that could not be
// executed has an *engine.StartError in it, which is not the container's.
type hookFailed struct{ error }

func (e *hookFailed) Unwrap() error { return errors.Unwrap(e.error) }

func hookError(kind string, n int, err error, out, errs string) error {
	return &hookFailed{fmt.Errorf("error running %s hook #%d: %w, stdout: %s, stderr: %s", kind, n, err, strings.TrimSpace(out), strings.TrimSpace(errs))}
}

func withTimeout(ctx context.Context, seconds *int) (context.Context, context.CancelFunc) {
	if seconds == nil {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Duration(*seconds)*time.Second)
}

// inside runs hooks in the container's namespaces: the same interpreter, which
// joins them and becomes the hook. dir is its working directory there.
func (c *Container) inside(ctx context.Context, kind string, list []specs.Hook, status, dir string) error {
	for i, h := range list {
		p := &specs.Process{Args: []string{h.Path}, Env: h.Env, Cwd: dir}
		if err := c.hookInside(ctx, kind, i, h, engine.ExecConfig{ID: c.ID, Pid: c.state.Pid, Process: p, NoNewKeyring: true, NoSetgroups: c.state.NoSetgroups}, status); err != nil {
			return err
		}
	}
	return nil
}

func (c *Container) hookInside(ctx context.Context, kind string, n int, h specs.Hook, cfg engine.ExecConfig, status string) error {
	in, err := c.hookState(status)
	if err != nil {
		return err
	}
	stdin, feed, err := os.Pipe()
	if err != nil {
		return err
	}
	defer stdin.Close()
	outR, outW, err := os.Pipe()
	if err != nil {
		feed.Close()
		return err
	}
	defer outR.Close()
	ctx, cancel := withTimeout(ctx, h.Timeout)
	defer cancel()
	cfg.Stdin, cfg.Stdout, cfg.Stderr = stdin, outW, outW
	if cfg.File = h.Path; len(h.Args) > 0 {
		cfg.Process.Args = h.Args
	}
	p, err := engine.Exec(ctx, cfg)
	outW.Close()
	go func() { feed.Write(in); feed.Close() }()
	if err != nil {
		return hookError(kind, n, err, "", "")
	}
	stop := context.AfterFunc(ctx, func() { p.Kill() })
	text := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(outR, 64<<10))
		text <- string(b)
	}()
	exit, err := p.Wait()
	stop()
	outR.SetReadDeadline(time.Now().Add(time.Second)) // a hook's own children may hold it
	if err == nil {
		err = exit.Err()
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return hookError(kind, n, err, "", <-text)
	}
	return nil
}
