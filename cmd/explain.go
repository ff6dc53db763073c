package cmd

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/berth-run/berth/container"
)

func explainCommands() []entry {
	return []entry{
		{name: "run", about: "print what run would do", build: (*app).explainRunCommand, min: 1, max: -1, literal: true},
		{name: "start", about: "print what start would do", build: (*app).explainStartCommand, min: 1, max: 1},
	}
}

const explained = "Prints the very plan that would be executed: the system calls of the container's first\nprocess, the files of its cgroup, and its network as ip and nft lines. Touches nothing."

func (a *app) explainRunCommand() *cli.Command {
	run := a.runCommand()
	return &cli.Command{
		Usage: "print what run would do", ArgsUsage: run.ArgsUsage, Description: explained, Flags: run.Flags,
		Action: func(c *cli.Context) error {
			o, err := containerOptions(c)
			if err != nil {
				return err
			}
			if err := a.openStores(); err != nil { // nothing is touched, so no rights are needed
				return err
			}
			img, err := a.image(o.Image, "never", "", true)
			if err != nil {
				return err
			}
			ctr, err := a.store.Draft(img, o)
			if err != nil {
				return err
			}
			return a.printPlan(ctr)
		},
	}
}

func (a *app) explainStartCommand() *cli.Command {
	return &cli.Command{
		Usage: "print what start would do", ArgsUsage: "CONTAINER", Description: explained,
		Action: func(c *cli.Context) error {
			ctr, err := a.container(c.Args().First())
			if err != nil {
				return err
			}
			return a.printPlan(ctr)
		},
	}
}

func (a *app) printPlan(ctr *container.Container) error {
	plan, err := ctr.Plan()
	if err != nil {
		return err
	}
	network, err := ctr.NetworkPlan()
	if err != nil {
		return err
	}
	if network != nil {
		fmt.Fprintln(a.out, "# on the host: the network, while the process builds its root")
		if err := network.Print(a.out); err != nil {
			return err
		}
		fmt.Fprintln(a.out)
	}
	plan.Print(a.out)
	return nil
}
