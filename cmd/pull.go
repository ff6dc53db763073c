package cmd

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"strings"
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
			if _, err := image.ParsePlatform(c.String("platform")); err != nil {
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
	img, err := a.reg.Pull(ctx, a.images, ref, o)
	if err == nil {
		a.checkPlatform(img, ref, o.Platform)
	}
	return img, err
}

// checkPlatform warns, as docker does, of an image that is not for the platform
// that was asked for, or for this machine: the registry may have no other.
func (a *app) checkPlatform(img *image.Image, ref, platform string) {
	if p, err := image.ParsePlatform(cmp.Or(platform, runtime.GOARCH)); err == nil && !p.Matches(img) {
		a.note("image %s is for %s/%s, not for %s", ref, img.OS, img.Architecture, p)
	}
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
	if strings.HasPrefix(ref, "@") {
		return nil, fail("no such image: "+ref, "did you mean "+container.HostImage+", the host's own files?")
	}
	want, err := image.ParsePlatform(platform)
	if err != nil {
		return nil, err
	}
	if policy != "always" {
		img, err := a.images.Get(ref)
		if err == nil && policy == "never" {
			a.checkPlatform(img, ref, platform)
		}
		// one for another platform than was asked for is not what is looked for
		if err == nil && (policy == "never" || want.Matches(img)) || err != nil && !errors.Is(err, image.ErrNotFound) {
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
	img, err := a.pull(ref, PullOptions{Platform: platform}, quiet)
	var reg *RegistryError
	if errors.As(err, &reg) {
		if near := a.nearImage(ref); near != "" {
			f := describe(err)
			f.hint = "did you mean " + near + ", which is here?"
			return nil, f
		}
	}
	return img, err
}

// nearImage is the name of an image that is here and differs by a slip, or "".
func (a *app) nearImage(ref string) string {
	typed, err := image.Parse(ref)
	if err != nil {
		return ""
	}
	all, err := a.images.List()
	if err != nil {
		return ""
	}
	best, near := 3, ""
	for _, img := range all {
		for _, name := range familiar(img.Names) {
			if d := distance(typed.Familiar(), name); d < best {
				best, near = d, name
			}
		}
	}
	return near
}
