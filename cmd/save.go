package cmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

func (a *app) saveCommand() *cli.Command {
	return &cli.Command{
		Usage: "write images to a tar archive", ArgsUsage: "IMAGE [IMAGE...]",
		Description: "The archive is docker's: berth load, docker load and skopeo read it.",
		Flags:       []cli.Flag{text("output,o", "file", "write this file instead of stdout")},
		Action: func(c *cli.Context) error {
			if err := a.open(); err != nil {
				return err
			}
			ctx, stop := interruptible()
			defer stop()
			return a.toFile(c.String("output"), "berth save -o FILE IMAGE", func(w io.Writer) error {
				return a.images.Save(ctx, w, c.Args().Slice()...)
			})
		},
	}
}

// toFile lets write fill the file name, or stdout if that is "". The file
// appears under its name when it is whole; after an error nothing is left.
func (a *app) toFile(name, try string, write func(io.Writer) error) error {
	if name == "" {
		if term.IsTerminal(int(os.Stdout.Fd())) {
			return fail("stdout is a terminal, which an archive would not do good", try)
		}
		return write(a.out)
	}
	if st, err := os.Stat(name); err == nil && !st.Mode().IsRegular() { // a pipe, /dev/null
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".berth-*")
	if err != nil {
		return fmt.Errorf("make the file %s: %w", name, err)
	}
	err = write(f)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
