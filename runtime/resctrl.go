package runtime

import (
	"errors"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-run/berth/resctrl"
	"github.com/berth-run/berth/runtime/engine"
)

// Schemata are changes of what share of caches and of memory bandwidth a
// container has; "" stays as it is.
type Schemata struct{ Cache, Bandwidth string }

func (s *Store) resctrl() (*resctrl.Host, error) {
	if s.findResctrl != nil {
		return s.findResctrl()
	}
	return resctrl.Find()
}

// decideResctrl: a host without it is an error, and never silence.
func (m *maker) decideResctrl(c *engine.Config) error {
	h, err := m.store.resctrl()
	if err != nil {
		return errors.New("intelRdt is specified in config, but Intel RDT is not enabled")
	}
	p, err := h.Plan(m.ID, m.spec.Linux.IntelRdt)
	if err != nil {
		return err
	}
	c.Resctrl, m.state.Resctrl = p, &p.Group
	return nil
}

// UpdateAll is Update, and changes the share of caches and memory bandwidth too.
func (c *Container) UpdateAll(r *specs.LinuxResources, s Schemata) error {
	if s == (Schemata{}) {
		return c.Update(r)
	}
	undo, err := c.updateSchemata(s)
	if err != nil {
		return err
	}
	if err := c.Update(r); err != nil {
		return errors.Join(err, undo())
	}
	return nil
}

// updateSchemata gives the function that takes it back.
func (c *Container) updateSchemata(s Schemata) (undo func() error, err error) {
	h, err := c.store.resctrl()
	switch {
	case s.Cache != "" && (err != nil || !h.Cache()):
		//lint:ignore ST1005 runc's text
		return nil, errors.New("Intel RDT/CAT: l3 cache schema is not enabled")
	case s.Bandwidth != "" && (err != nil || !h.Bandwidth()):
		//lint:ignore ST1005 runc's text
		return nil, errors.New("Intel RDT/MBA: memory bandwidth schema is not enabled")
	}
	spec, err := c.Spec()
	if err != nil {
		return nil, err
	}
	if spec.Linux.IntelRdt == nil || c.state.Resctrl == nil {
		return nil, errors.New("updating a non-existent Intel RDT configuration is not supported")
	}
	if !c.alive() {
		return nil, ErrNotRunning
	}
	dir, old := c.state.Resctrl.Dir, *spec.Linux.IntelRdt
	changed := old
	if s.Cache != "" {
		changed.L3CacheSchema = s.Cache
	}
	if s.Bandwidth != "" {
		changed.MemBwSchema = s.Bandwidth
	}
	if err := resctrl.Write(dir, resctrl.Lines(&changed)); err != nil {
		return nil, err
	}
	spec.Linux.IntelRdt = &changed // Update saves it
	return func() error {
		spec.Linux.IntelRdt = &old
		if lines := resctrl.Lines(&old); lines != "" {
			return resctrl.Write(dir, lines)
		}
		return nil
	}, nil
}

// CacheStats is what the container's share is, and what is counted of it, in the
// form of runc events --stats; an empty object for one without.
func (c *Container) CacheStats() (any, error) {
	if c.state.Resctrl == nil {
		return struct{}{}, nil
	}
	h, err := c.store.resctrl()
	if err != nil {
		return nil, err
	}
	return h.Stats(*c.state.Resctrl)
}
