package container

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// defaultStopTime is docker's, in seconds.
const defaultStopTime = 10

// poll is how often a change of another process's making is looked for: the
// kernel tells only parents of an end, and state files tell nobody.
const poll = 4 * time.Millisecond

// Stop sends the stop signal, waits timeout seconds (nil: the container's own
// time or 10; negative: for ever), then kills. It returns when the end is
// recorded. A container that does not run is no error.
func (c *Container) Stop(ctx context.Context, timeout *int) error {
	if !c.busy() {
		return nil
	}
	if err := c.requestStop(); err != nil {
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	}
	c.unfreeze() // a frozen process takes no signal
	seconds := defaultStopTime
	if c.Options.StopTime != nil {
		seconds = *c.Options.StopTime
	}
	if timeout != nil {
		seconds = *timeout
	}
	sig, err := ParseSignal(c.StopSignal)
	if err != nil {
		sig = unix.SIGTERM
	}
	if err := c.signal(sig); err != nil {
		return fmt.Errorf("stop container %s: %w", c.Name, err)
	}
	wait := ctx
	if seconds >= 0 {
		var cancel func()
		wait, cancel = context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
		defer cancel()
	}
	if _, err := c.Wait(wait); err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	if err := c.end(); err != nil {
		return fmt.Errorf("stop container %s: %w", c.Name, err)
	}
	return nil
}

// signal sends sig to process 1. One that has ended is no error.
func (c *Container) signal(sig syscall.Signal) error {
	st := c.State()
	_, err := st.send(sig)
	return err
}

// send sends sig through a descriptor that cannot come to mean another process
// (pidfd_open(2), Linux 5.3). It tells whether the process was there.
func (st *State) send(sig syscall.Signal) (bool, error) {
	if st.Pid == 0 {
		return false, nil
	}
	fd, err := unix.PidfdOpen(st.Pid, 0)
	if err == unix.ESRCH {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open process %d: %w", st.Pid, err)
	}
	defer unix.Close(fd)
	if !st.alive() { // the number was another's already
		return false, nil
	}
	err = unix.PidfdSendSignal(fd, sig, nil, 0)
	if err != nil && err != unix.ESRCH {
		return false, fmt.Errorf("send signal %d to process %d: %w", int(sig), st.Pid, err)
	}
	return err == nil, nil
}

// Kill sends a signal. With SIGKILL it waits until the end is recorded.
func (c *Container) Kill(sig syscall.Signal) error {
	switch st := c.State(); st.Status {
	case Running, Paused:
	default:
		return fmt.Errorf("cannot kill container %s: it %w", c.Name, ErrNotRunning)
	}
	if sig == unix.SIGKILL {
		if err := c.end(); err != nil {
			return fmt.Errorf("kill container %s: %w", c.Name, err)
		}
		return nil
	}
	if err := c.signal(sig); err != nil {
		return fmt.Errorf("kill container %s: %w", c.Name, err)
	}
	return nil
}

// Pause freezes all processes of the container (cgroup.freeze).
func (c *Container) Pause() error { return c.setPaused(true) }

// Unpause lets them go on.
func (c *Container) Unpause() error { return c.setPaused(false) }

func (c *Container) setPaused(on bool) error {
	verb, from, to := "pause", Running, Paused
	if !on {
		verb, from, to = "unpause", Paused, Running
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	st := c.readState()
	if st.Status != from || !st.alive() {
		if on && st.Status == Paused {
			return fmt.Errorf("%s: container %s %w already", verb, c.Name, ErrPaused)
		}
		return fmt.Errorf("%s: container %s is %s", verb, c.Name, st.Status)
	}
	if err := c.freeze(on); err != nil {
		return fmt.Errorf("%s container %s: %w", verb, c.Name, err)
	}
	st.Status = to
	if err := c.writeState(st, false); err != nil {
		return fmt.Errorf("%s container %s: %w", verb, c.Name, err)
	}
	c.last = nil
	return nil
}

// Restart stops it if it runs and starts it in the background.
func (c *Container) Restart(ctx context.Context, timeout *int) error {
	if c.Options.Remove && c.busy() {
		return fmt.Errorf("restart container %s: it is removed when it ends (--rm)", c.Name)
	}
	if err := c.Stop(ctx, timeout); err != nil {
		return err
	}
	return c.StartMonitor(ctx)
}

// reload reads the record anew, for who is about to change it and has the
// lock: others may have changed it since this process read it.
func (c *Container) reload() error {
	now, err := c.store.load(c.ID)
	if err == nil {
		c.Record = now.Record
	}
	return err
}

// Rename gives another name; the old one is free afterwards.
func (c *Container) Rename(name string) error {
	name = strings.TrimPrefix(name, "/")
	if err := checkName("container", name); err != nil {
		return err
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.reload(); err != nil {
		return err
	}
	if err := c.store.claimName(name, c.dir+"/config.json"); err != nil {
		return fmt.Errorf("rename container %s: %w", c.Name, err)
	}
	old := c.Name
	c.Name, c.Options.Name = name, name
	if err := c.save(); err != nil {
		c.store.freeName(name, c.ID)
		return err
	}
	c.store.freeName(old, c.ID)
	return nil
}

// SetRestart changes the restart policy; it counts from the next end on.
func (c *Container) SetRestart(policy string) error {
	name, _, err := restartPolicy(policy)
	if err != nil {
		return err
	}
	if c.Options.Remove && name != "no" {
		return errors.New("a container with --rm cannot have a restart policy")
	}
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.reload(); err != nil {
		return err
	}
	c.Options.Restart = policy
	return c.save()
}

// UpdateLimits changes limits of the record, and of the cgroup if it runs.
// Fields of o that are zero stay as they are.
func (c *Container) UpdateLimits(o Options) error {
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.reload(); err != nil {
		return err
	}
	next := c.Options
	mergeLimits(&next, &o)
	if _, err := limits(&next); err != nil {
		return err
	}
	c.Options = next
	if st := c.State(); st.Status == Running || st.Status == Paused {
		if err := c.applyLimits(); err != nil {
			return fmt.Errorf("update container %s: %w", c.Name, err)
		}
	}
	return c.save()
}

func mergeLimits(to, from *Options) {
	set(&to.Memory, from.Memory)
	set(&to.MemorySwap, from.MemorySwap)
	set(&to.MemoryReservation, from.MemoryReservation)
	set(&to.CPUs, from.CPUs)
	set(&to.CPUShares, from.CPUShares)
	set(&to.CPUPeriod, from.CPUPeriod)
	set(&to.CPUQuota, from.CPUQuota)
	set(&to.CpusetCPUs, from.CpusetCPUs)
	set(&to.CpusetMems, from.CpusetMems)
	set(&to.PidsLimit, from.PidsLimit)
	set(&to.BlkioWeight, from.BlkioWeight)
}

func set[T comparable](to *T, v T) {
	var zero T
	if v != zero {
		*to = v
	}
}
