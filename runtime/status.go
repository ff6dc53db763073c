package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/cgroups"
	"github.com/berth-run/berth/runtime/engine"
)

// The states of a container (runtime-spec, runtime.md, "State", and paused).
const (
	Creating = "creating"
	Created  = "created"
	Running  = "running"
	Paused   = "paused"
	Stopped  = "stopped"
)

// State is what `state` and `list` tell, in the order of their fields.
type State struct {
	Version     string            `json:"ociVersion"`
	ID          string            `json:"id"`
	Pid         int               `json:"pid"` // 0 when it is stopped
	Status      string            `json:"status"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     string            `json:"created"` // RFC 3339 with nanoseconds
	Annotations map[string]string `json:"annotations,omitempty"`
	Owner       string            `json:"owner"`
}

// State looks at the container now.
func (c *Container) State() (*State, error) {
	status, err := c.status()
	if err != nil {
		return nil, err
	}
	s := &State{Version: c.state.Version, ID: c.ID, Pid: c.state.Pid, Status: status, Bundle: c.state.Bundle,
		Rootfs: c.state.Rootfs, Created: c.state.Created, Annotations: c.state.Notes}
	if status == Stopped {
		s.Pid = 0
	}
	return s, nil
}

// Owner is the name of the user who created the container, "#1000" for one
// without.
func (c *Container) Owner() string {
	id := strconv.Itoa(c.state.Owner)
	u, err := user.LookupId(id)
	if err != nil {
		return "#" + id
	}
	return u.Username
}

func (c *Container) status() (string, error) {
	if !c.alive() {
		return Stopped, nil
	}
	// A run that was killed may have left creatingFile beside a program that runs.
	if c.state.Creating && engine.Unexecuted(c.state.Pid) {
		return Creating, nil
	}
	if dir := c.state.Cgroup.Dir; dir != "" {
		frozen, err := cgroups.Frozen(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if frozen {
			return Paused, nil
		}
	}
	// A start that was killed may have let the program go and left the FIFO.
	if g := c.state.Gate; g != nil && g.Exists() && engine.Unexecuted(c.state.Pid) {
		return Created, nil
	}
	return Running, nil
}

// alive tells whether the first process is there and the one that was started: a
// pid alone may have been given to another since.
func (c *Container) alive() bool {
	if c.state.Pid == 0 {
		return false
	}
	ticks, ok := engine.ProcessStart(c.state.Pid)
	return ok && ticks == c.state.Ticks && (c.state.Boot == "" || c.state.Boot == engine.BootID())
}

// pidfd of the first process, checked to be that one; ErrNotRunning.
func (c *Container) pidfd() (*os.File, error) {
	if c.state.Pid == 0 {
		return nil, ErrNotRunning
	}
	fd, err := unix.PidfdOpen(c.state.Pid, 0)
	if err != nil {
		if err == unix.ESRCH {
			return nil, ErrNotRunning
		}
		return nil, fmt.Errorf("pidfd_open %d: %w", c.state.Pid, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	if !c.alive() { // looked at after the pidfd is held: the number cannot change any more
		f.Close()
		return nil, ErrNotRunning
	}
	return f, nil
}
