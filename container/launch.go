package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/cgroups"
	"github.com/berth-run/berth/image"
	"github.com/berth-run/berth/rootfs"
	"github.com/berth-run/berth/runtime/engine"
)

// ErrManyLayers is in the error for an image that only a newer kernel can mount.
var ErrManyLayers = rootfs.ErrManyLayers

// stdio says what process 1 gets as its standard streams.
type stdio struct {
	stdin bool // a pipe; else /dev/null
	size  *specs.Box
}

// running is a started container in the process that watches it.
type running struct {
	c     *Container
	first bool // never started before
	shown bool // Mount shows its root file system on the host
	proc  *engine.Process
	st    State
	in    *os.File // our end of stdin: nil without -i, the terminal with -t
	out   *os.File // of stdout, or the terminal
	err   *os.File // of stderr, nil with a terminal
	log   *logFile
}

// launch starts the container: network, files, cgroup, process, state. When it
// returns the program has been executed, or nothing is left of the attempt.
func (c *Container) launch(ctx context.Context, s stdio) (*running, error) {
	if builtWithCgo {
		return nil, errors.New("this berth was built with cgo, which cannot start containers: build it with CGO_ENABLED=0 (make build)")
	}
	fresh := c.held != nil // made by this process: nobody can have mounted it
	unlock, err := c.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	old := c.readState()
	if old.Status != Created {
		if cur := c.State(); cur.Status == Running || cur.Status == Paused {
			return nil, fmt.Errorf("container %s %w already", c.Name, ErrRunning)
		}
		if err := c.again(); err != nil {
			return nil, err
		}
	}
	r := &running{c: c, first: old.Status == Created && old.FinishedAt.IsZero(), log: &logFile{path: c.logPath()}, st: State{RestartCount: old.RestartCount}}
	if !fresh {
		if r.shown, err = c.hide(); err != nil {
			return nil, err
		}
	}
	if c.Trace != nil {
		c.steps = &recorder{}
	}
	err = r.start(ctx, s)
	c.steps.tell(c.Trace)
	if err != nil {
		err = errors.Join(err, c.release(), r.show(0))
		c.writeState(State{Status: old.Status, ExitCode: StartCode(err), Error: err.Error(),
			StartedAt: old.StartedAt, FinishedAt: time.Now().UTC(), RestartCount: old.RestartCount}, false)
		return nil, err
	}
	// a program that has ended already cannot be looked into: then finish shows it
	r.show(r.st.Pid)
	return r, nil
}

// show shows again on the host what the start took from there.
func (r *running) show(pid int) error {
	if !r.shown || mounted(r.c.shown()) {
		return nil
	}
	if err := r.c.show(pid); err != nil {
		return fmt.Errorf("mount container %s again: %w", r.c.Name, err)
	}
	return nil
}

// again looks once more at what may have changed since the last run: the
// user's numbers, for the container may have written its own passwd.
func (c *Container) again() error {
	root := &lazyLayers{lower: c.lowerDirs(), upper: c.dir + "/upper"}
	defer root.close()
	if err := c.identify(root); err != nil {
		return err
	}
	// of a run whose berth was killed
	return c.release()
}

func (r *running) start(ctx context.Context, s stdio) error {
	c := r.c
	cfg, err := c.config(s.size, true)
	if err != nil {
		return err
	}
	network, net, err := c.network()
	if err != nil {
		return err
	}
	cfg.Network, r.st.Network = network, net
	if err := c.writeNetworkFiles(net); err != nil {
		return err
	}
	if err := c.store.makeMountPoints(); err != nil {
		return err
	}
	giveBack, err := c.borrowShm()
	if err != nil {
		return err
	}
	defer giveBack() // one that stays mounted is taken away at the next start or end
	child, err := r.pipes(s, &cfg)
	if err != nil {
		return err
	}
	defer closeAll(child...)
	cfg.Cloned = func(pid int) error { return r.cloned(pid) }
	plan, err := engine.Decide(cfg)
	if err == nil {
		r.proc, err = plan.Start(ctx)
	}
	if err != nil {
		closeAll(r.in, r.out, r.err)
		return err
	}
	if c.Options.TTY {
		r.in, r.out = r.proc.Console, r.proc.Console
	}
	return nil
}

// cloned writes the state down while the process builds its root: it costs no
// time so. From here on other processes find the container; should the start
// fail yet, launch writes again.
func (r *running) cloned(pid int) error {
	st := &r.st
	st.Status, st.Pid, st.Monitor, st.Boot = Running, pid, os.Getpid(), engine.BootID()
	st.StartTicks, _ = engine.ProcessStart(st.Pid)
	st.MonitorTicks, _ = engine.ProcessStart(st.Monitor)
	st.StartedAt = time.Now().UTC()
	if err := r.c.writeState(*st, r.first); err != nil {
		return fmt.Errorf("write the state of container %s: %w", r.c.Name, err)
	}
	return nil
}

// config is what package engine needs. With keep what had to be computed is stored.
func (c *Container) config(size *specs.Box, keep bool) (engine.Config, error) {
	if c.Options.joins() {
		c.spec = nil // the others may have been started, or have ended, since Create
	}
	spec, err := c.Spec()
	if err == nil {
		err = c.unjoined
	}
	if err != nil {
		return engine.Config{}, err
	}
	c.spec = nil // the next start looks anew
	spec.Process.ConsoleSize = size
	group, err := c.cgroupPlan()
	if err != nil {
		return engine.Config{}, err
	}
	group.Trace = c.steps.trace()
	devices, err := cgroups.DeviceRules(spec.Linux.Resources.Devices)
	if err != nil {
		return engine.Config{}, err
	}
	filter, err := c.filter(keep)
	if err != nil {
		return engine.Config{}, err
	}
	rel := "containers/" + c.ID + "/"
	lower := c.Lower
	if c.Image != HostImage { // which has all mount points, and no layer of an overlay may lie in another
		lower = append([]string{mountPoints}, lower...)
	}
	return engine.Config{
		ID: c.ID, Spec: spec,
		Rootfs: rootfs.Overlay{Base: c.store.Root, Lower: lower, Upper: rel + "upper", Work: rel + "work",
			UserXattr: image.UserXattr(), Volatile: c.Options.Remove},
		Cgroup:  engine.Plain{Plan: group},
		Devices: devices, Seccomp: filter,
		Labels: securityLabels(spec.Process),
		Init:   c.Options.Init,
		Trace:  c.steps.trace(),
	}, nil
}

// pipes makes the streams; what it returns is the child's and to be closed
// after the start. Our ends do not block, the child's do.
func (r *running) pipes(s stdio, cfg *engine.Config) ([]*os.File, error) {
	if r.c.Options.TTY {
		return nil, nil
	}
	var child []*os.File
	make := func(childWrites bool) (ours, theirs *os.File, err error) {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			return nil, nil, fmt.Errorf("make a pipe for the container: %w", err)
		}
		us, them := 0, 1
		if !childWrites {
			us, them = 1, 0
		}
		unix.SetNonblock(p[us], true)
		theirs = os.NewFile(uintptr(p[them]), "pipe")
		child = append(child, theirs)
		return os.NewFile(uintptr(p[us]), "pipe"), theirs, nil
	}
	var err error
	if s.stdin {
		if r.in, cfg.Stdin, err = make(false); err != nil {
			return child, err
		}
	}
	if r.out, cfg.Stdout, err = make(true); err != nil {
		return child, err
	}
	r.err, cfg.Stderr, err = make(true)
	return child, err
}

func closeAll(files ...*os.File) error {
	var errs []error
	for _, f := range files {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// finish records the end and gives back all the container had: called with
// the process gone and its output drained. again: it will be started once more.
func (r *running) finish(exit engine.Exit, again bool) error {
	c := r.c
	var errs []error
	c.logErr = r.log.close()
	unlock, err := c.lock()
	if err != nil {
		if errors.Is(err, ErrNotFound) { // rm -f was faster and has done all of it
			c.last, c.gone = &r.st, true
			r.st.StopRequested = true
			r.record(exit)
			return nil
		}
		return err
	}
	defer unlock()
	stop := c.readState()
	r.st.StopRequested = stop.StopRequested
	r.record(exit)
	if again && !stop.StopRequested {
		r.st.Status = Restarting
		r.st.RestartCount++
	}
	if c.Options.Remove {
		c.last, c.gone = &r.st, true
		return errors.Join(append(errs, c.remove(true))...)
	}
	errs = append(errs, c.writeState(r.st, false), c.release(), r.show(0))
	return errors.Join(errs...)
}

func (r *running) record(exit engine.Exit) {
	r.st.Status, r.st.Pid = Exited, 0
	r.st.ExitCode = exit.Code
	r.st.FinishedAt = time.Now().UTC()
	r.st.OOMKilled = r.c.oomKilled()
	if r.c.logErr != nil {
		r.st.Error = "its log is not complete: " + r.c.logErr.Error()
	}
	r.c.last = &r.st
}

// release gives back the network and the cgroup: also what an earlier run left.
func (c *Container) release() error {
	return errors.Join(c.releaseNetwork(), c.removeCgroup())
}

// StartCode is the exit code docker gives for a failed start: 127 when the
// command is not there, 126 when it cannot be executed, 125 for everything else.
func StartCode(err error) int {
	switch {
	case errors.Is(err, engine.ErrNotFound):
		return 127
	case errors.Is(err, engine.ErrNotExecutable):
		return 126
	}
	return 125
}

// Plan is what a start now would do, for explain. It takes no lease, makes no
// cgroup and writes no file: those that a start writes count as made.
func (c *Container) Plan() (*engine.Plan, error) {
	cfg, err := c.config(nil, false)
	if err != nil {
		return nil, err
	}
	for _, name := range networkFiles {
		cfg.Made = append(cfg.Made, c.store.dir(c.ID)+"/"+name)
	}
	cfg.Made = append(cfg.Made, c.store.dir(c.ID)+"/shm/")
	if c.Options.Network == "bridge" {
		cfg.Network = func(int) error { return nil }
	}
	return engine.Decide(cfg)
}
