package cmd

import (
	"context"
	"math"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/container"
)

func (a *app) stopCommand() *cli.Command {
	return &cli.Command{
		Usage: "stop one or more running containers", ArgsUsage: "CONTAINER [CONTAINER...]",
		Description: "Sends the stop signal (SIGTERM unless the image or --stop-signal says otherwise), waits,\nand kills what has not ended by then.",
		Flags:       stopFlags(),
		Action: func(c *cli.Context) error {
			return a.stopEach(c, func(ctr *container.Container, seconds *int) error {
				return ctr.Stop(context.Background(), seconds)
			})
		},
	}
}

func (a *app) restartCommand() *cli.Command {
	return &cli.Command{
		Usage: "restart one or more containers", ArgsUsage: "CONTAINER [CONTAINER...]",
		Flags: stopFlags(),
		Action: func(c *cli.Context) error {
			return a.stopEach(c, func(ctr *container.Container, seconds *int) error {
				return ctr.Restart(context.Background(), seconds)
			})
		},
	}
}

func stopFlags() []cli.Flag {
	return []cli.Flag{
		text("signal,s", "string", "signal to send instead of the container's own"),
		text("timeout,time,t", "int", "seconds to wait before it is killed, -1 for ever (default 10)"),
	}
}

func (a *app) stopEach(c *cli.Context, stop func(*container.Container, *int) error) error {
	r := &flagReader{c: c}
	seconds := r.int("timeout", -1, math.MaxInt32)
	sig := c.String("signal")
	if sig != "" {
		if _, err := container.ParseSignal(sig); err != nil {
			r.bad("signal", sig, "a name or number, as TERM or 15")
		}
	}
	if r.err != nil {
		return r.err
	}
	return a.each(c.Args().Slice(), func(ctr *container.Container) error {
		if sig != "" {
			ctr.StopSignal = sig
		}
		return stop(ctr, seconds)
	})
}

func (a *app) killCommand() *cli.Command {
	return &cli.Command{
		Usage: "send a signal to one or more running containers", ArgsUsage: "CONTAINER [CONTAINER...]",
		Flags: []cli.Flag{text("signal,s", "string", "name or number of the signal (default KILL)")},
		Action: func(c *cli.Context) error {
			sig := unix.SIGKILL
			if s := c.String("signal"); s != "" {
				var err error
				if sig, err = container.ParseSignal(s); err != nil {
					return badValue("--signal", s, "a name or number, as TERM or 15")
				}
			}
			return a.each(c.Args().Slice(), func(ctr *container.Container) error { return ctr.Kill(sig) })
		},
	}
}
