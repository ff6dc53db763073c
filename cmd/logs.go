package cmd

import (
	"os"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/berth-run/berth/container"
)

func (a *app) logsCommand() *cli.Command {
	return &cli.Command{
		Usage: "show what a container has written", ArgsUsage: "CONTAINER",
		Flags: []cli.Flag{
			yes("follow,f", "go on until the container ends"),
			text("since", "string", "nothing before this time (2026-01-02T13:23:37Z) or this long ago (42m)"),
			text("tail,n", "string", "the last lines only, or all (default all)"),
			yes("timestamps,t", "show the time of each line"),
			text("until", "string", "nothing after this time"),
		},
		Action: func(c *cli.Context) error {
			o := container.LogOptions{Tail: -1, Follow: c.Bool("follow"), Timestamps: c.Bool("timestamps")}
			r := &flagReader{c: c}
			if s := c.String("tail"); s != "" && s != "all" {
				n, err := strconv.Atoi(s)
				if err != nil {
					r.bad("tail", s, "a number of lines, or all")
				}
				o.Tail = max(n, -1)
			}
			if s := c.String("since"); s != "" {
				o.Since = r.moment("since", s)
			}
			if s := c.String("until"); s != "" {
				o.Until = r.moment("until", s)
			}
			if r.err != nil {
				return r.err
			}
			ctr, err := a.container(c.Args().First())
			if err != nil {
				return err
			}
			ctx, stop := interruptible()
			defer stop()
			if err := ctr.Logs(ctx, o, os.Stdout, a.errw); err != nil {
				return err
			}
			if st := ctr.State(); st.Status == container.Exited && st.Error != "" {
				a.note("container %s: %s", ctr.Name, st.Error)
			}
			return nil
		},
	}
}
