package oci

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime"
)

// simple is a command whose only argument is a container and that prints nothing.
func (c *call) simple(about string, do func(*runtime.Container) error) *command {
	return &command{
		usage: "<container-id>", about: about, min: 1, max: 1,
		run: func(args []string) (int, error) {
			ctr, err := c.container(args[0])
			if err == nil {
				err = do(ctr)
			}
			return 0, err
		},
	}
}

func (c *call) startCommand() *command {
	return c.simple("execute the program of a created container", c.start)
}

func (c *call) start(ctr *runtime.Container) error {
	notify, err := listenNotify(filepath.Join(c.store.Root, ctr.ID))
	if err != nil {
		return err
	}
	defer notify.close()
	if err := ctr.Start(context.Background()); err != nil || notify == nil {
		return err
	}
	s, err := ctr.State()
	if err != nil || s.Pid == 0 {
		return err
	}
	fd, err := unix.PidfdOpen(s.Pid, 0)
	if err != nil { // it has ended since
		return nil
	}
	pidfd := os.NewFile(uintptr(fd), "pidfd")
	defer pidfd.Close()
	c.untilReady(notify, pidfd, s.Pid)
	return nil
}

func (c *call) pauseCommand() *command {
	return c.simple("suspend all processes of a container", func(ctr *runtime.Container) error {
		return c.hint("pause", ctr.Pause())
	})
}

func (c *call) resumeCommand() *command {
	return c.simple("resume the processes of a paused container", func(ctr *runtime.Container) error {
		return c.hint("resume", ctr.Resume())
	})
}

// hint says what a refusal may come from, in runc's words.
func (c *call) hint(op string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		c.log.warn(c.name + " " + op + " failure might be caused by lack of full access to cgroups")
	}
	return err
}

func (c *call) stateCommand() *command {
	return c.simple("print the state of a container", func(ctr *runtime.Container) error {
		s, err := ctr.State()
		if err != nil {
			return err
		}
		b, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			return err
		}
		_, err = c.stdout.Write(b)
		return err
	})
}

func (c *call) deleteCommand() *command {
	var force bool
	return &command{
		usage: "<container-id>", about: "delete a stopped container",
		more: "With --force a container that runs is killed, and one that does not exist is no error.",
		min:  1, max: 1,
		options: []option{yes("force,f", "kill the container if it runs (SIGKILL)", &force)},
		run: func(args []string) (int, error) {
			return 0, c.delete(args[0], force)
		},
	}
}

// delete also removes what a create that was killed has left: a directory that
// is no container yet.
func (c *call) delete(id string, force bool) error {
	ctr, err := c.container(id)
	if errors.Is(err, runtime.ErrNotExist) {
		if left := c.store.DeleteLeftovers(context.Background(), id); left != nil || force {
			return left
		}
	}
	if err != nil {
		return err
	}
	return ctr.Delete(context.Background(), force)
}
