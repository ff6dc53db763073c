// The command berth runs containers.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/berth-run/berth/cmd"
	_ "github.com/berth-run/berth/cmd/berth/early" // runs everything but pulls
	_ "github.com/berth-run/berth/cmd/berth/first" // runs the OCI runtime's commands
	"github.com/berth-run/berth/image"
	"github.com/berth-run/berth/image/registry"
)

func main() { os.Exit(cmd.Main(os.Args, client{})) }

// client is package registry as package cmd sees it.
type client struct{}

func (client) Pull(ctx context.Context, s *image.Store, ref string, o cmd.PullOptions) (*image.Image, error) {
	img, err := registry.Pull(ctx, s, ref, options(o))
	return img, kind(err)
}

func (client) Push(ctx context.Context, s *image.Store, ref string, o cmd.PullOptions) (string, error) {
	digest, err := registry.Push(ctx, s, ref, options(o))
	return digest, kind(err)
}

func options(o cmd.PullOptions) registry.Options {
	return registry.Options{Platform: o.Platform, Insecure: o.Insecure, Progress: o.Progress}
}

// kind tells package cmd, which must not know package registry, what an error means.
func kind(err error) error {
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return &cmd.RegistryError{Err: err, Kind: cmd.RegistryMissing}
	case errors.Is(err, registry.ErrDenied):
		return &cmd.RegistryError{Err: err, Kind: cmd.RegistryDenied}
	case errors.Is(err, registry.ErrNetwork):
		return &cmd.RegistryError{Err: err, Kind: cmd.RegistryUnreachable}
	}
	return err
}
