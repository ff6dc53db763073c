package cmd

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/berth-run/berth/container"
)

// The commands that change the state of a container and take no more than its name.

func (a *app) pauseCommand() *cli.Command {
	return a.simple("pause all processes of one or more containers", (*container.Container).Pause)
}

func (a *app) unpauseCommand() *cli.Command {
	return a.simple("unpause all processes of one or more containers", (*container.Container).Unpause)
}

func (a *app) umountCommand() *cli.Command {
	return a.simple("undo mount", (*container.Container).Unmount)
}

func (a *app) simple(about string, do func(*container.Container) error) *cli.Command {
	return &cli.Command{
		Usage: about, ArgsUsage: "CONTAINER [CONTAINER...]",
		Action: func(c *cli.Context) error { return a.each(c.Args().Slice(), do) },
	}
}

func (a *app) mountCommand() *cli.Command {
	return &cli.Command{
		Usage: "show a container's file system on the host", ArgsUsage: "CONTAINER [CONTAINER...]",
		Description: "Prints the folder. It stays until `berth umount` or `berth rm`.",
		Action: func(c *cli.Context) error {
			if err := a.open(); err != nil {
				return err
			}
			return a.eachName(c.Args().Slice(), func(name string) error {
				ctr, err := a.store.Lookup(name)
				if err != nil {
					return err
				}
				dir, err := ctr.Mount()
				if err == nil {
					fmt.Fprintln(a.out, dir)
				}
				return err
			})
		},
	}
}

func (a *app) waitCommand() *cli.Command {
	return &cli.Command{
		Usage: "block until containers stop, then print their exit codes", ArgsUsage: "CONTAINER [CONTAINER...]",
		Action: func(c *cli.Context) error {
			ctx, stop := interruptible()
			defer stop()
			if err := a.open(); err != nil {
				return err
			}
			return a.eachName(c.Args().Slice(), func(name string) error {
				ctr, err := a.store.Lookup(name)
				if err != nil {
					return err
				}
				code, err := ctr.Wait(ctx)
				if err == nil {
					fmt.Fprintln(a.out, code)
				}
				return err
			})
		},
	}
}

func (a *app) renameCommand() *cli.Command {
	return &cli.Command{
		Usage: "rename a container", ArgsUsage: "CONTAINER NEW_NAME",
		Action: func(c *cli.Context) error {
			ctr, err := a.container(c.Args().First())
			if err != nil {
				return err
			}
			return ctr.Rename(c.Args().Get(1))
		},
	}
}

func (a *app) rmCommand() *cli.Command {
	return &cli.Command{
		Usage: "remove one or more containers", ArgsUsage: "CONTAINER [CONTAINER...]",
		Flags: []cli.Flag{
			yes("force,f", "kill it first if it runs"),
			yes("volumes,v", "remove its anonymous volumes too"),
		},
		Action: func(c *cli.Context) error {
			return a.each(c.Args().Slice(), func(ctr *container.Container) error {
				return ctr.Remove(c.Bool("force"), c.Bool("volumes"))
			})
		},
	}
}

func (a *app) updateCommand() *cli.Command {
	return &cli.Command{
		Usage: "change limits or the restart policy of containers", ArgsUsage: "CONTAINER [CONTAINER...]",
		Flags: append(limitFlags(), text("restart", "string", "no, always, unless-stopped, on-failure[:tries]")),
		Action: func(c *cli.Context) error {
			r := &flagReader{c: c}
			var o container.Options
			if r.limits(&o); r.err != nil {
				return r.err
			}
			if c.NumFlags() == 0 {
				return fail("update: nothing to change", "see all flags: berth update --help")
			}
			return a.each(c.Args().Slice(), func(ctr *container.Container) error {
				if c.IsSet("restart") {
					if err := ctr.SetRestart(c.String("restart")); err != nil {
						return err
					}
					if c.NumFlags() == 1 {
						return nil
					}
				}
				return ctr.UpdateLimits(o)
			})
		},
	}
}

func (a *app) monitorCommand() *cli.Command {
	return &cli.Command{
		Usage: "watch a container in the background", ArgsUsage: "ID",
		Description: "Started by berth itself.",
		Action:      func(c *cli.Context) error { return status(container.Monitor(a.root, c.Args().First())) },
	}
}
