package cmd

import "github.com/urfave/cli/v2"

// ociCommand stands in help for package oci, which has the command line as soon
// as "oci" is its first word: see cmd/berth/first.
func (a *app) ociCommand() *cli.Command {
	return &cli.Command{
		Usage: "be an OCI runtime: runc's commands, options and output", ArgsUsage: "[GLOBAL OPTIONS] COMMAND [ARG...]",
		Description: "containerd, CRI-O, podman, docker and BuildKit can call berth in place of runc, as berth-oci.\n" +
			"`berth oci --help` lists its commands. Its containers are not those of `berth ps`: `berth oci list`.",
		Action: func(*cli.Context) error {
			return fail("oci must be the first word after berth, before all options", "berth oci --root /run/berth-oci list")
		},
	}
}
