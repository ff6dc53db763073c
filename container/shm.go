package container

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// Who joins the IPC namespace of a container gets its /dev/shm as well: POSIX
// shared memory is files there (shm_overview(7)). It is mounted in the other's
// mount namespace only, and a bind mount can only be made of what is in one's
// own, so for the time of the start a clone of it is mounted here.
func (c *Container) shmDir() string { return c.dir + "/shm" }

// borrowShm mounts the clone; giveBack takes it away once the container has its own.
func (c *Container) borrowShm() (giveBack func() error, err error) {
	id, ok := strings.CutPrefix(c.Options.IPC, "container:")
	if !ok {
		return func() error { return nil }, nil
	}
	donor, err := c.store.Lookup(id)
	if err != nil {
		return nil, fmt.Errorf("share /dev/shm: %w", err)
	}
	if err := c.dropShm(); err != nil { // of a berth that was killed
		return nil, err
	}
	tree, err := cloneOf(donor.State().Pid, "/dev/shm")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notShareable(donor)
	}
	if err == nil {
		defer tree.Close()
		err = attach(tree, c.shmDir())
	}
	if err != nil {
		return nil, fmt.Errorf("share /dev/shm of container %s: %w", donor.Name, err)
	}
	return c.dropShm, nil
}

func (c *Container) dropShm() error {
	if !strings.HasPrefix(c.Options.IPC, "container:") {
		return nil
	}
	return detach(c.shmDir(), unix.MNT_DETACH)
}

// notShareable is docker's error, with its words.
func notShareable(donor *Container) error {
	return fmt.Errorf("join the ipc namespace of container %s: non-shareable IPC, it needs --ipc shareable", donor.Name)
}
