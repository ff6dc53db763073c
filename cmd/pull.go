package cmd

import (
	"errors"
	"fmt"
	"sync"

	"github.com/urfave/cli/v2"

	"github.com/berth-run/berth/container"
	"github.com/berth-run/berth/image"
)

func (a *app) pullCommand() *cli.Command {
	return &cli.Command{
		Usage: "download an image from a registry", ArgsUsage: "NAME[:TAG|@DIGEST]",
		Flags: []cli.Flag{
			yes("insecure", "plain http, or https without a known certificate"),
			text("platform", "string", "platform of the image, as linux/arm64"),
			yes("quiet,q", "print the name only"),
		},
		Action: func(c *cli.Context) error {
			ref := c.Args().First()
			if _, err := image.Parse(ref); err != nil {
				return err
			}
			if err := a.open(); err != nil {
				return err
			}
			img, err := a.pull(ref, PullOptions{Platform: c.String("platform"), Insecure: c.Bool("insecure")}, c.Bool("quiet"))
			if err != nil {
				return err
			}
			name := img.ID
			if r, err := image.Parse(ref); err == nil && r.Transport == "" {
				name = r.String()
			}
			fmt.Fprintln(a.out, name)
			return nil
		},
	}
}

// pull fetches an image; in the light start it asks for the other one.
func (a *app) pull(ref string, o PullOptions, quiet bool) (*image.Image, error) {
	if a.reg == nil {
		return nil, errNeedRegistry
	}
	ctx, stop := interruptible()
	defer stop()
	if !quiet {
		o.Progress = a.progress()
	}
	return a.reg.Pull(ctx, a.images, ref, o)
}

// progress prints lines to stderr, one at a time.
func (a *app) progress() func(string) {
	var mu sync.Mutex
	return func(line string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(a.errw, oneLine(line))
	}
}

// image finds the image for a new container, by the rules of --pull. It is nil
// for the host's own root.
func (a *app) image(ref, policy, platform string, quiet bool) (*image.Image, error) {
	if ref == container.HostImage {
		return nil, nil
	}
	if policy != "always" {
		img, err := a.images.Get(ref)
		if err == nil || !errors.Is(err, image.ErrNotFound) {
			return img, err
		}
		if policy == "never" {
			return nil, noImage(ref)
		}
	}
	if _, err := image.Parse(ref); err != nil {
		return nil, err
	}
	if a.reg != nil && !quiet {
		fmt.Fprintln(a.errw, "berth: pulling "+oneLine(ref))
	}
	return a.pull(ref, PullOptions{Platform: platform}, quiet)
}
