package cmd

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/berth-run/berth/container"
)

// ask lets the user think again, unless -f was given.
func (a *app) ask(c *cli.Context, what string) error {
	if c.Bool("force") {
		return nil
	}
	fmt.Fprintf(a.errw, "%s\nGo on? [y/N] ", what)
	line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	if y := strings.ToLower(strings.TrimSpace(line)); y == "y" || y == "yes" {
		return nil
	}
	return fail("nothing was removed", "to remove without a question: -f")
}

func (a *app) section(title string, lines []string) {
	if len(lines) > 0 {
		fmt.Fprintf(a.out, "%s\n%s\n\n", title, strings.Join(lines, "\n"))
	}
}

func (a *app) reclaimed(bytes int64) {
	fmt.Fprintln(a.out, "Total reclaimed space: "+humanSize(bytes, 4))
}

func (a *app) containerPruneCommand() *cli.Command {
	return &cli.Command{
		Usage: "remove all stopped containers",
		Flags: []cli.Flag{yes("force,f", "do not ask")},
		Action: func(c *cli.Context) error {
			if err := a.open(); err != nil {
				return err
			}
			if err := a.ask(c, "This will remove all stopped containers."); err != nil {
				return err
			}
			freed, err := a.pruneContainers()
			a.reclaimed(freed)
			return err
		},
	}
}

func (a *app) pruneContainers() (freed int64, err error) {
	size := map[string]int64{}
	all, err := a.store.List()
	if err != nil {
		return 0, err
	}
	for _, c := range all {
		if st := c.State(); st.Status == container.Created || st.Status == container.Exited {
			size[c.ID] = a.written(c)
		}
	}
	ids, err := a.store.PruneContainers()
	for _, id := range ids {
		freed += size[id]
	}
	a.section("Deleted Containers:", ids)
	return freed, err
}

func (a *app) imagePruneCommand() *cli.Command {
	return &cli.Command{
		Usage: "remove images without a name",
		Flags: []cli.Flag{
			yes("all,a", "all images that no container uses, not only those without a name"),
			yes("force,f", "do not ask"),
		},
		Action: func(c *cli.Context) error {
			if err := a.open(); err != nil {
				return err
			}
			what := "This will remove all images without a name."
			if c.Bool("all") {
				what = "This will remove all images that no container uses."
			}
			if err := a.ask(c, what); err != nil {
				return err
			}
			freed, err := a.pruneImages(c.Bool("all"))
			a.reclaimed(freed)
			return err
		},
	}
}

func (a *app) pruneImages(all bool) (int64, error) {
	p, err := a.images.Prune(all, a.store.ImageInUse)
	a.section("Deleted Images:", p.Lines)
	return p.Bytes, err
}

func (a *app) systemPruneCommand() *cli.Command {
	return &cli.Command{
		Usage:       "remove what is not used, and what crashes have left",
		Description: "Removes stopped containers, images without a name, and whatever killed berth processes\nleft behind: half-made containers, cgroups, links, leases, ports.",
		Flags: []cli.Flag{
			yes("all,a", "all images that no container uses, not only those without a name"),
			yes("force,f", "do not ask"),
			yes("volumes", "anonymous volumes that no container uses too"),
		},
		Action: func(c *cli.Context) error {
			if err := a.open(); err != nil {
				return err
			}
			if err := a.ask(c, "This will remove all stopped containers and images without a name."); err != nil {
				return err
			}
			return a.systemPrune(c.Bool("all"), c.Bool("volumes"))
		},
	}
}

// systemPrune goes on after an error: the more is removed the better.
func (a *app) systemPrune(images, volumes bool) error {
	left, err := a.store.Prune()
	a.section("Left by killed processes:", left)
	errs := []error{err}
	total, err := a.pruneContainers()
	errs = append(errs, err)
	if volumes {
		freed, err := a.pruneVolumes(false)
		total, errs = total+freed, append(errs, err)
	}
	freed, err := a.pruneImages(images)
	a.reclaimed(total + freed)
	return errors.Join(append(errs, err)...)
}
