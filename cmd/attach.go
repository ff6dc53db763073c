package cmd

import (
	"context"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/berth-run/berth/container"
)

func (a *app) attachCommand() *cli.Command {
	return &cli.Command{
		Usage: "attach to a running container's streams", ArgsUsage: "CONTAINER",
		Flags: []cli.Flag{
			text("detach-keys", "string", "keys that detach from the terminal"),
			yes("no-stdin", "pass no input on"),
			yes("sig-proxy", "pass signals on to the process (default true)"),
		},
		Action: func(c *cli.Context) error {
			ctr, err := a.container(c.Args().First())
			if err != nil {
				return err
			}
			a.keepOnBrokenPipe()
			s := container.IO{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: a.errw, DetachKeys: c.String("detach-keys"), NoSigProxy: !sigProxy(c),
				Skipped: func(n uint64) {
					a.note("%d bytes were left out here, for they were not read fast enough: see berth logs %s", n, ctr.Name)
				}}
			if c.Bool("no-stdin") {
				s.Stdin = nil
			}
			return a.ended(ctr, func() (int, error) { return ctr.Attach(context.Background(), s) })
		},
	}
}
