// The command berth runs containers.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/berth-run/berth/cmd"
	_ "github.com/berth-run/berth/cmd/berth/early" // runs everything but pulls
	"github.com/berth-run/berth/image"
	"github.com/berth-run/berth/image/registry"
)

func main() { os.Exit(cmd.Main(os.Args, client{})) }

// client is package registry as package cmd sees it.
type client struct{}

func (client) Pull(ctx context.Context, s *image.Store, ref string, o cmd.PullOptions) (*image.Image, error) {
	img, err := registry.Pull(ctx, s, ref, registry.Options{Platform: o.Platform, Insecure: o.Insecure, Progress: o.Progress})
	switch {
	case errors.Is(err, registry.ErrNotFound):
		err = &cmd.RegistryError{Err: err, Kind: cmd.RegistryMissing}
	case errors.Is(err, registry.ErrDenied):
		err = &cmd.RegistryError{Err: err, Kind: cmd.RegistryDenied}
	case errors.Is(err, registry.ErrNetwork):
		err = &cmd.RegistryError{Err: err, Kind: cmd.RegistryUnreachable}
	}
	return img, err
}
