package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/cgroups"
	"github.com/berth-run/berth/runtime/engine"
)

// Process is the first process, for Wait, Console and Pidfd: only in the process that created the container.
func (c *Container) Process() *engine.Process { return c.init }

// Wait reaps the first process: only in the process that created the container.
func (c *Container) Wait() (engine.Exit, error) {
	if c.init == nil {
		return engine.Exit{}, errors.New("only the process that created a container can wait for it")
	}
	return c.init.Wait()
}

// Kill sends a signal to the first process, or to all. Without a pid namespace
// of the container's own SIGKILL goes to all in any case: nobody else ends them.
func (c *Container) Kill(sig unix.Signal, all bool) error {
	if all || sig == unix.SIGKILL && !c.state.OwnPids {
		if done, err := c.killAll(sig); done || err != nil {
			return err
		}
	}
	pidfd, err := c.pidfd()
	if err != nil {
		return err
	}
	defer pidfd.Close()
	if err := unix.PidfdSendSignal(int(pidfd.Fd()), sig, nil, 0); err != nil {
		if err == unix.ESRCH {
			return ErrNotRunning
		}
		return fmt.Errorf("unable to signal init: %w", err)
	}
	c.wake(sig)
	return nil
}

// wake lets a frozen container take the signal that ends it.
func (c *Container) wake(sig unix.Signal) {
	if dir := c.state.Cgroup.Dir; dir != "" && sig == unix.SIGKILL {
		if frozen, err := cgroups.Frozen(dir); err == nil && frozen {
			cgroups.Freeze(dir, false)
		}
	}
}

// killAll signals every process of the cgroup. done is false where there is none.
func (c *Container) killAll(sig unix.Signal) (done bool, err error) {
	dir := c.state.Cgroup.Dir
	if dir == "" {
		return false, nil
	}
	pids, err := cgroups.Procs(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && len(pids) == 0:
		return false, nil
	case err != nil:
		return false, err
	}
	if sig == unix.SIGKILL {
		return true, cgroups.Kill(dir)
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, sig); err != nil && err != unix.ESRCH {
			return true, fmt.Errorf("send signal %d to process %d: %w", sig, pid, err)
		}
	}
	return true, nil
}

// Delete removes a stopped container, or one that was created and never
// started; with force any.
func (c *Container) Delete(ctx context.Context, force bool) error {
	status, err := c.status()
	if err != nil && !force {
		return err
	}
	if status != Stopped {
		if !force && status != Created {
			return fmt.Errorf("cannot delete container %s that is not stopped: %s", c.ID, status)
		}
		if err := c.end(); err != nil {
			return err
		}
	}
	return c.destroy(ctx)
}

// end kills all of the container and waits until its first process is gone.
func (c *Container) end() error {
	pidfd, err := c.pidfd()
	if err != nil {
		return nil
	}
	defer pidfd.Close()
	if err := c.Kill(unix.SIGKILL, false); err != nil && !errors.Is(err, ErrNotRunning) {
		return err
	}
	for end := time.Now().Add(10 * time.Second); ; {
		p := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
		n, err := unix.Poll(p, int(time.Until(end).Milliseconds()))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return os.NewSyscallError("poll", err)
		case n > 0:
			return nil
		default:
			return errors.New("container init still running")
		}
	}
}

// destroy removes what a container without processes of its own has: what is
// left in its cgroup, and that; then the hooks; its directory last, for with
// it the knowledge of all this goes.
func (c *Container) destroy(ctx context.Context) error {
	if err := c.state.Cgroup.Manager().Remove(); err != nil {
		return err
	}
	if g := c.state.Resctrl; g != nil {
		if err := g.Remove(); err != nil {
			return fmt.Errorf("unable to remove container's IntelRDT group: %w", err)
		}
	}
	if spec, err := c.hooks(); err == nil && spec != nil {
		for i := range spec.Hooks.Poststop {
			if err := c.outside(ctx, "poststop", spec.Hooks.Poststop[i:i+1], Stopped); err != nil {
				c.store.warn("%v", err)
			}
		}
	}
	if err := c.unmountRoot(); err != nil {
		return err
	}
	if err := c.removeDir(); err != nil {
		return fmt.Errorf("remove the directory of container %s: %w", c.ID, err)
	}
	return nil
}

// removeDir does not list the directory: most have these files and no more. The
// state goes last of them, for with it the container is still found.
func (c *Container) removeDir() error {
	for _, name := range [...]string{engine.StartFIFO, specFile, stateFile} {
		unix.Unlink(c.path(name)) // what is there yet is seen next
	}
	if unix.Rmdir(c.dir) == nil {
		return nil
	}
	return os.RemoveAll(c.dir)
}

// DeleteLeftovers removes what a killed Create left of a container that Load
// does not find: a directory without a state.
func (s *Store) DeleteLeftovers(_ context.Context, id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	return os.RemoveAll((&Container{ID: id, store: s, dir: s.Root + "/" + id}).dir)
}

// Pause stops all processes (cgroup v2 freezer).
func (c *Container) Pause() error {
	status, err := c.status()
	if err != nil {
		return err
	}
	if status != Running && status != Created {
		return ErrNotRunning
	}
	if c.state.Cgroup.Dir == "" {
		return errors.New("cannot pause: the container has no cgroup")
	}
	return cgroups.Freeze(c.state.Cgroup.Dir, true)
}

// Resume lets them go on.
func (c *Container) Resume() error {
	status, err := c.status()
	if err != nil {
		return err
	}
	if status != Paused {
		return ErrNotPaused
	}
	return cgroups.Freeze(c.state.Cgroup.Dir, false)
}

// Processes are the pids of all processes, in the caller's pid namespace; none
// of a container that has ended.
func (c *Container) Processes() ([]int, error) {
	if c.state.Cgroup.Dir == "" {
		if !c.alive() {
			return nil, nil
		}
		return []int{c.state.Pid}, nil
	}
	pids, err := cgroups.Procs(c.state.Cgroup.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return pids, err
}

// Update changes the limits of a container; unset fields stay as they are.
func (c *Container) Update(r *specs.LinuxResources) error {
	if !c.alive() {
		return ErrNotRunning
	}
	spec, err := c.Spec()
	if err != nil {
		return err
	}
	limits, merged, err := cgroups.Changes(spec.Linux.Resources, r)
	if err != nil {
		return err
	}
	c.store.ignored(limits)
	if err := c.state.Cgroup.Manager().Update(limits); err != nil {
		return err
	}
	spec.Linux.Resources = merged
	return c.saveSpec(spec)
}

// Stats is what the container uses now.
func (c *Container) Stats() (*cgroups.Stats, error) {
	if c.state.Cgroup.Dir == "" {
		return nil, ErrNoCgroup
	}
	return cgroups.Read(c.state.Cgroup.Dir)
}

// WatchOOM calls f for every OOM kill until the container ends or ctx does.
func (c *Container) WatchOOM(ctx context.Context, f func()) error {
	if c.state.Cgroup.Dir == "" {
		return ErrNoCgroup
	}
	return cgroups.WatchOOM(ctx, c.state.Cgroup.Dir, f)
}
