package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/berth-run/berth/container"
)

func (a *app) startCommand() *cli.Command {
	return &cli.Command{
		Usage: "start one or more stopped containers", ArgsUsage: "CONTAINER [CONTAINER...]",
		Flags: []cli.Flag{
			yes("attach,a", "show the output, pass signals on, exit as the container does"),
			text("detach-keys", "string", "keys that detach from the terminal"),
			yes("interactive,i", "pass stdin on"),
			yes("sig-proxy", "pass signals on to the process (default true)"),
		},
		Action: func(c *cli.Context) error {
			if c.Bool("attach") || c.Bool("interactive") {
				return a.startAttached(c)
			}
			return a.each(c.Args().Slice(), func(ctr *container.Container) error {
				err := ctr.StartMonitor(context.Background())
				if errors.Is(err, container.ErrRunning) {
					return nil
				}
				return err
			})
		},
	}
}

func (a *app) startAttached(c *cli.Context) error {
	if c.NArg() != 1 {
		return fail("start: can attach to one container only", "berth start -a CONTAINER")
	}
	ctr, err := a.container(c.Args().First())
	if err != nil {
		return err
	}
	a.keepOnBrokenPipe()
	s := container.IO{Stdout: os.Stdout, Stderr: a.errw, DetachKeys: c.String("detach-keys"), NoSigProxy: !sigProxy(c)}
	if c.Bool("interactive") {
		s.Stdin = os.Stdin
	}
	if err := needTerminal(s.Stdin, ctr.Options.TTY && ctr.Options.Interactive); err != nil {
		return err
	}
	return a.ended(ctr, func() (int, error) {
		code, err := ctr.Run(context.Background(), s)
		if errors.Is(err, container.ErrRunning) {
			return ctr.Attach(context.Background(), s)
		}
		return code, err
	})
}

// container finds one.
func (a *app) container(name string) (*container.Container, error) {
	if err := a.open(); err != nil {
		return nil, err
	}
	return a.store.Lookup(name)
}

// each does the same to several containers. One that fails does not keep the
// others from it; the names of those that did not fail are printed.
func (a *app) each(names []string, do func(*container.Container) error) error {
	if err := a.open(); err != nil {
		return err
	}
	return a.eachName(names, func(name string) error {
		ctr, err := a.store.Lookup(name)
		if err == nil {
			err = do(ctr)
		}
		if err == nil {
			fmt.Fprintln(a.out, name)
		}
		return err
	})
}

func (a *app) eachName(names []string, do func(string) error) error {
	code := 0
	for _, name := range names {
		if err := do(name); err != nil {
			if len(names) == 1 {
				return err
			}
			code = a.report(err)
		}
	}
	return status(code)
}
