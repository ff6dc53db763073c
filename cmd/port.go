package cmd

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/berth-run/berth/netns"
)

func (a *app) portCommand() *cli.Command {
	return &cli.Command{
		Usage: "list the published ports of a container", ArgsUsage: "CONTAINER [PORT[/PROTO]]",
		Action: func(c *cli.Context) error {
			ctr, err := a.container(c.Args().First())
			if err != nil {
				return err
			}
			st := ctr.State()
			ports := st.Network.Ports
			if st.Pid == 0 {
				ports = nil
			}
			want := c.Args().Get(1)
			if want != "" && !strings.Contains(want, "/") {
				want += "/tcp"
			}
			found := false
			for _, p := range ports {
				inside := fmt.Sprintf("%d/%s", p.ContainerPort, p.Proto)
				switch want {
				case "":
					fmt.Fprintf(a.out, "%s -> %s\n", inside, hostSide(p))
				case inside:
					fmt.Fprintln(a.out, hostSide(p))
					found = true
				}
			}
			if want != "" && !found {
				return fail(fmt.Sprintf("container %s publishes no port %s", ctr.Name, want), "see those it has: berth port "+ctr.Name)
			}
			return nil
		},
	}
}

// hostSide is 0.0.0.0:8080.
func hostSide(p netns.Port) string {
	host, _, _ := strings.Cut(p.String(), "->")
	return host
}
