package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/berth-run/berth/runtime"
)

func (c *call) runCommand() *command {
	b := &begin{}
	var keep bool
	return &command{
		usage: "<container-id>", about: "create and run a container",
		more: "Without --detach it ends with the container, whose exit status is its own (128+n when signal n\nended it), and deletes it. The id must be unique below --root.",
		min:  1, max: 1,
		options: slices.Insert(b.bundleOptions(), 5,
			yes("detach,d", "do not wait for the container to end", &b.detach),
			yes("keep", "do not delete the container after its end", &keep)),
		run: func(args []string) (int, error) {
			status, err := c.run(args[0], b, keep)
			if err != nil {
				return c.runFailed(err)
			}
			return status, nil
		},
	}
}

func (c *call) run(id string, b *begin, keep bool) (int, error) {
	o, err := c.createOptions(b)
	if err != nil {
		return 0, err
	}
	f, err := c.newParent(b)
	if err != nil {
		return 0, err
	}
	defer f.close()
	notify := notifyAtOnce(o)
	defer notify.close()
	ctr, err := c.launch(id, o, f)
	if err != nil {
		return 0, err
	}
	p := ctr.Process()
	if b.detach {
		c.untilReady(notify, p.Pidfd, p.Pid)
		return 0, nil
	}
	if err := notify.background(p.Pidfd); err != nil {
		return 0, errors.Join(err, ctr.Delete(context.Background(), true))
	}
	status := f.wait(p)
	if !keep {
		c.remove(ctr)
	}
	return status, nil
}

// launch creates and starts in one, but for a terminal that we hold: that must
// be set up before the program writes to it.
func (c *call) launch(id string, o *runtime.CreateOptions, f *foreground) (*runtime.Container, error) {
	ctx := context.Background()
	if !o.Spec.Process.Terminal || o.ConsoleSocket != "" {
		return c.store.Run(ctx, id, *o)
	}
	ctr, err := c.store.Create(ctx, id, *o)
	if err != nil {
		return nil, err
	}
	err = f.terminal(ctr.Process().Console)
	if err == nil {
		err = ctr.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, ctr.Delete(ctx, true))
	}
	return ctr, nil
}

// runFailed: that the kernel refused the program is said on stderr as if the
// program had said it, bare. The log hears of it if it is elsewhere.
func (c *call) runFailed(err error) (int, error) {
	var refused *runtime.ExecveError
	if !errors.As(err, &refused) {
		return 1, c.failed("run", err)
	}
	if !c.log.onStderr() {
		return execStatus, refused
	}
	fmt.Fprintln(c.log.stderr, refused)
	return execStatus, nil
}

// remove deletes a container that has ended; the exit status is worth more than
// what goes wrong here.
func (c *call) remove(ctr *runtime.Container) {
	if err := ctr.Delete(context.Background(), true); err != nil && !errors.Is(err, os.ErrNotExist) {
		c.log.warn(err.Error())
	}
}
