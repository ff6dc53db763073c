package cmd

import (
	"fmt"
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/berth-run/berth/image"
)

func (a *app) loadCommand() *cli.Command {
	return &cli.Command{
		Usage:       "load images from a tar archive or stdin",
		Description: "Takes docker archives and OCI layouts in a tar, plain or compressed.",
		Flags: []cli.Flag{
			text("input,i", "file", "read this file instead of stdin"),
			yes("quiet,q", "no progress"),
		},
		Action: func(c *cli.Context) error {
			in := os.Stdin
			if name := c.String("input"); name != "" && name != "-" {
				f, err := os.Open(name)
				if err != nil {
					return withHint(fmt.Errorf("load: %w", err), "give the path of an image archive")
				}
				defer f.Close()
				in = f
			} else if term.IsTerminal(int(in.Fd())) {
				return fail("load: nothing to read: stdin is a terminal", "berth load -i FILE, or berth load < FILE")
			}
			if err := a.open(); err != nil {
				return err
			}
			ctx, stop := interruptible()
			defer stop()
			var progress func(string)
			if !c.Bool("quiet") {
				progress = a.progress()
			}
			loaded, err := a.images.Load(ctx, in, progress)
			a.printLoaded(loaded)
			if err != nil {
				return withHint(err, "an archive comes from: berth save, docker save, or skopeo copy docker://NAME docker-archive:FILE")
			}
			return nil
		},
	}
}

func (a *app) printLoaded(loaded []*image.Image) {
	for _, img := range loaded {
		for _, name := range familiar(img.Names) {
			fmt.Fprintln(a.out, "Loaded image: "+name)
		}
		if len(img.Names) == 0 {
			fmt.Fprintln(a.out, "Loaded image ID: "+img.ID)
		}
	}
}
