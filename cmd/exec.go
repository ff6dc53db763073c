package cmd

import (
	"context"
	"errors"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/berth-run/berth/container"
)

func (a *app) execCommand() *cli.Command {
	return &cli.Command{
		Usage: "run a command in a running container", ArgsUsage: "CONTAINER COMMAND [ARG...]",
		Flags: []cli.Flag{
			yes("detach,d", "leave it running in the background"),
			text("detach-keys", "string", "keys that detach from the terminal"),
			list("env,e", "list", "set an environment variable"),
			list("env-file", "list", "read environment variables from a file"),
			yes("interactive,i", "keep stdin open"),
			yes("privileged", "give it all capabilities"),
			yes("tty,t", "give it a terminal"),
			text("user,u", "string", "user name or uid (name|uid[:group|gid])"),
			text("workdir,w", "string", "working directory inside the container"),
		},
		Action: func(c *cli.Context) error {
			ctr, err := a.container(c.Args().First())
			if err != nil {
				return err
			}
			o := container.ExecOptions{
				Args: c.Args().Tail(), Interactive: c.Bool("interactive"), TTY: c.Bool("tty"), Detach: c.Bool("detach"),
				Env: c.StringSlice("env"), EnvFile: c.StringSlice("env-file"),
				User: c.String("user"), Workdir: c.String("workdir"), Privileged: c.Bool("privileged"),
			}
			a.keepOnBrokenPipe()
			s := container.IO{Stdout: os.Stdout, Stderr: a.errw, DetachKeys: c.String("detach-keys")}
			if o.Interactive {
				s.Stdin = os.Stdin
			}
			if err := needTerminal(s.Stdin, o.TTY && !o.Detach); err != nil {
				return err
			}
			code, err := ctr.Exec(context.Background(), o, s)
			if errors.Is(err, container.ErrDetached) {
				return nil
			}
			return withCode(code, err)
		},
	}
}
