package container

import (
	"os"

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
func (c *Container) cgroupDir() string              { return "" }
func (c *Container) cgroupPids() []int              { return nil }
func (c *Container) oomKilled() bool                { return false }
func (c *Container) removeCgroup() error            { return nil }
func (c *Container) unfreeze() error                { return nil }
func (c *Container) freeze(on bool) error           { return nil }
func (c *Container) applyLimits() error             { return nil }
func (c *Container) openCgroup() (*os.File, error)  { return nil, nil }
func pruneCgroups(s *Store)                         {}
func cpuLimits(o *Options, l *cgroups.Limits) error { return nil }

// Pids are the host's numbers of all processes of a running container.
func (c *Container) Pids() ([]int, error) { return c.cgroupPids(), nil }
