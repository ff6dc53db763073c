package cmd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/berth-run/berth/container"
)

func (a *app) createCommand() *cli.Command {
	return &cli.Command{
		Usage: "create a new container", ArgsUsage: "IMAGE [COMMAND] [ARG...]",
		Flags: containerFlags(),
		Action: func(c *cli.Context) error {
			o, err := containerOptions(c)
			if err != nil {
				return err
			}
			ctr, err := a.newContainer(o, c.Bool("quiet"))
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, ctr.ID)
			return nil
		},
	}
}

// newContainer finds or pulls the image and creates the container. What is made
// on the way is taken back if it fails.
func (a *app) newContainer(o container.Options, quiet bool) (*container.Container, error) {
	if err := a.open(); err != nil {
		return nil, err
	}
	if o.CIDFile != "" {
		if _, err := os.Lstat(o.CIDFile); err == nil {
			return nil, cidTaken(o.CIDFile)
		}
	}
	img, err := a.image(o.Image, o.Pull, o.Platform, quiet)
	if err != nil {
		return nil, err
	}
	a.debugf("image %s is found", o.Image)
	cid, err := newCIDFile(o.CIDFile)
	if err != nil {
		return nil, err
	}
	ctr, err := a.store.Create(img, o)
	if err != nil {
		return nil, withHint(errors.Join(err, cid.drop()), flagHint(err))
	}
	if (len(o.Ports) > 0 || o.PublishAll) && (o.Network == "host" || o.Network == "none") {
		a.note("published ports have no meaning with --network %s", o.Network)
	}
	if err := cid.write(ctr.ID); err != nil {
		return nil, errors.Join(err, ctr.Remove(true, true), cid.drop())
	}
	a.debugf("container %s is created: %s", ctr.Name, ctr.ID)
	return ctr, nil
}

// cidFile is --cidfile; nil without one.
type cidFile struct{ f *os.File }

func newCIDFile(path string) (*cidFile, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil, cidTaken(path)
	}
	if err != nil {
		return nil, fmt.Errorf("make the --cidfile: %w", err)
	}
	return &cidFile{f}, nil
}

func cidTaken(path string) error {
	return fail("the --cidfile "+path+" is there already", "take another name, or if its container is gone: rm "+path)
}

func (c *cidFile) write(id string) error {
	if c == nil {
		return nil
	}
	_, err := c.f.WriteString(id)
	if err = errors.Join(err, c.f.Close()); err != nil {
		return fmt.Errorf("write the --cidfile: %w", err)
	}
	return nil
}

func (c *cidFile) drop() error {
	if c == nil {
		return nil
	}
	c.f.Close() // may be closed already
	return os.Remove(c.f.Name())
}
