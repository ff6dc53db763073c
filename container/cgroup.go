package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/berth-run/berth/cgroups"
)

// cgroupName is the path of a container's cgroup below the parent that
// package cgroups chooses: by id, so that it is found without a record.
func cgroupName(id string) string { return "berth/" + id }

func (c *Container) cgroupPlan() (*cgroups.Plan, error) {
	h, err := cgroups.Find()
	if err != nil {
		return nil, err
	}
	l, err := limits(&c.Options)
	if err != nil {
		return nil, err
	}
	return h.Plan(cgroupName(c.ID), l)
}

// cgroupDir is where the cgroup is or would be, "" on a host without cgroup v2.
func (c *Container) cgroupDir() string {
	h, err := cgroups.Find()
	if err != nil {
		return ""
	}
	return h.Dir(cgroupName(c.ID))
}

func (c *Container) cgroupPids() []int {
	dir := c.cgroupDir()
	if dir == "" {
		return nil
	}
	pids, err := cgroups.Procs(dir)
	if err != nil {
		return nil
	}
	return pids
}

// Pids are the host's numbers of all processes of a running container.
func (c *Container) Pids() ([]int, error) {
	if st := c.State(); st.Status != Running && st.Status != Paused {
		return nil, fmt.Errorf("container %s %w", c.Name, ErrNotRunning)
	}
	return cgroups.Procs(c.cgroupDir())
}

// oomKilled asks memory.events whether the kernel killed one of its processes.
func (c *Container) oomKilled() bool {
	if c.Options.Memory == 0 {
		return false
	}
	ev, err := cgroups.Events(c.cgroupDir())
	return err == nil && ev["oom_kill"] > 0
}

func (c *Container) removeCgroup() error {
	dir := c.cgroupDir()
	if dir == "" {
		return nil
	}
	err := cgroups.Remove(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// killRest ends what process 1 left behind: with it the container is over. In a
// pid namespace of its own the kernel has done so already (pid_namespaces(7)).
func (c *Container) killRest() {
	if c.Options.PID != "host" && !strings.HasPrefix(c.Options.PID, "container:") {
		return
	}
	if dir := c.cgroupDir(); dir != "" {
		cgroups.Kill(dir) // an error is that of removing the cgroup, too
	}
}

func (c *Container) freeze(on bool) error { return cgroups.Freeze(c.cgroupDir(), on) }

// unfreeze lets a paused container take the signal that is to end it.
func (c *Container) unfreeze() {
	if c.readState().Status == Paused {
		c.freeze(false)
	}
}

// applyLimits writes the limits of the options into the running container's cgroup.
func (c *Container) applyLimits() error {
	p, err := c.cgroupPlan()
	if err != nil {
		return err
	}
	f, err := p.Apply()
	if err != nil {
		return err
	}
	return f.Close()
}

// openCgroup opens the cgroup for a process that joins it.
func (c *Container) openCgroup() (*os.File, error) {
	dir := c.cgroupDir()
	if dir == "" {
		return nil, nil
	}
	return os.Open(dir)
}

// Stats is what the container uses now.
func (c *Container) Stats() (*cgroups.Stats, error) {
	if st := c.State(); st.Status != Running && st.Status != Paused {
		return nil, fmt.Errorf("container %s %w", c.Name, ErrNotRunning)
	}
	return cgroups.Read(c.cgroupDir())
}
