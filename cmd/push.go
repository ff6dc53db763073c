package cmd

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/berth-run/berth/image"
)

func (a *app) pushCommand() *cli.Command {
	return &cli.Command{
		Usage: "upload an image to a registry", ArgsUsage: "NAME[:TAG]",
		Flags: []cli.Flag{
			yes("insecure", "plain http, or https without a known certificate"),
			yes("quiet,q", "print the digest only"),
		},
		Action: func(c *cli.Context) error {
			ref := c.Args().First()
			if _, err := image.Parse(ref); err != nil {
				return err
			}
			if err := a.open(); err != nil {
				return err
			}
			if _, err := a.images.Get(ref); err != nil {
				return err
			}
			if a.reg == nil {
				return errNeedRegistry
			}
			ctx, stop := interruptible()
			defer stop()
			o := PullOptions{Insecure: c.Bool("insecure")}
			if !c.Bool("quiet") {
				o.Progress = a.progress()
			}
			digest, err := a.reg.Push(ctx, a.images, ref, o)
			if err == nil {
				fmt.Fprintln(a.out, digest)
			}
			return err
		},
	}
}
