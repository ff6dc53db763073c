package cmd

import (
	"fmt"
	"path/filepath"
	"sort"
	"strings"

	"github.com/urfave/cli/v2"
)

func volumeCommands() []entry {
	return []entry{
		{name: "create", about: "create a volume", build: (*app).volumeCreateCommand, max: 1},
		{name: "inspect", about: "show all there is to know of volumes", min: 1, max: -1, build: func(a *app) *cli.Command {
			return a.inspectOnly("volume", "show all there is to know of volumes")
		}},
		{name: "ls", about: "list volumes", build: (*app).volumeListCommand},
		{name: "list", about: "list volumes", build: (*app).volumeListCommand, hidden: true},
		{name: "prune", about: "remove volumes that no container uses", build: (*app).volumePruneCommand},
		{name: "rm", about: "remove one or more volumes", build: (*app).volumeRemoveCommand, min: 1, max: -1},
	}
}

func (a *app) volumeCreateCommand() *cli.Command {
	return &cli.Command{
		Usage: "create a volume", ArgsUsage: "[NAME]",
		Flags: []cli.Flag{
			text("driver,d", "string", "only local is there"),
			list("label", "list", "set a label"),
		},
		Action: func(c *cli.Context) error {
			if d := c.String("driver"); d != "" && d != "local" {
				return badValue("--driver", d, "local")
			}
			labels := map[string]string{}
			for _, l := range c.StringSlice("label") {
				k, v, _ := strings.Cut(l, "=")
				if k == "" {
					return badValue("--label", l, "KEY=VALUE")
				}
				labels[k] = v
			}
			if err := a.open(); err != nil {
				return err
			}
			v, err := a.store.CreateVolume(c.Args().First(), labels)
			if err == nil {
				fmt.Fprintln(a.out, v.Name)
			}
			return err
		},
	}
}

func (a *app) volumeListCommand() *cli.Command {
	return &cli.Command{
		Usage: "list volumes",
		Flags: []cli.Flag{
			list("filter,f", "filter", "only those that fit (name=…, label=…, dangling=true)"),
			text("format", "string", "table, json, or a Go template"),
			yes("quiet,q", "names only"),
		},
		Action: a.listVolumes,
	}
}

func (a *app) listVolumes(c *cli.Context) error {
	f, err := parseFilters(c.StringSlice("filter"), "dangling", "driver", "label", "name")
	if err != nil {
		return err
	}
	if err := a.open(); err != nil {
		return err
	}
	all, err := a.store.Volumes()
	if err != nil {
		return err
	}
	type row struct{ Driver, Labels, Mountpoint, Name, Scope string }
	var rows []row
	for _, v := range all {
		unused := func(want string) bool {
			return (want == "true" || want == "1") == (len(a.store.VolumeUsers(v.Name)) == 0)
		}
		driver := func(want string) bool { return want == v.Driver }
		if f.name(v.Name) && f.labels(v.Labels) && f.any("dangling", unused) && f.any("driver", driver) {
			rows = append(rows, row{v.Driver, labelText(v.Labels), v.Mountpoint, v.Name, v.Scope})
		}
	}
	format := c.String("format")
	if c.Bool("quiet") {
		format = "{{.Name}}"
	}
	return show(a.out, format, "{{.Driver}}\t{{.Name}}", row{"DRIVER", "LABELS", "MOUNTPOINT", "VOLUME NAME", "SCOPE"}, rows)
}

// labelText is docker's form: a=1,b=2.
func labelText(labels map[string]string) string {
	list := make([]string, 0, len(labels))
	for k, v := range labels {
		list = append(list, k+"="+v)
	}
	sort.Strings(list)
	return strings.Join(list, ",")
}

func (a *app) volumeRemoveCommand() *cli.Command {
	return &cli.Command{
		Usage: "remove one or more volumes", ArgsUsage: "VOLUME [VOLUME...]",
		Flags: []cli.Flag{yes("force,f", "one that is not there is no error")},
		Action: func(c *cli.Context) error {
			if err := a.open(); err != nil {
				return err
			}
			return a.eachName(c.Args().Slice(), func(name string) error {
				err := a.store.RemoveVolume(name, c.Bool("force"))
				if err == nil {
					fmt.Fprintln(a.out, name)
				}
				return err
			})
		},
	}
}

func (a *app) volumePruneCommand() *cli.Command {
	return &cli.Command{
		Usage: "remove volumes that no container uses",
		Flags: []cli.Flag{
			yes("all,a", "those with a name too, not only anonymous ones"),
			yes("force,f", "do not ask"),
		},
		Action: func(c *cli.Context) error {
			if err := a.open(); err != nil {
				return err
			}
			if err := a.ask(c, "This will remove all anonymous volumes that no container uses."); err != nil {
				return err
			}
			freed, err := a.pruneVolumes(c.Bool("all"))
			a.reclaimed(freed)
			return err
		},
	}
}

func (a *app) pruneVolumes(all bool) (freed int64, err error) {
	size := map[string]int64{}
	list, err := a.store.Volumes()
	if err != nil {
		return 0, err
	}
	for _, v := range list {
		if len(a.store.VolumeUsers(v.Name)) == 0 {
			size[v.Name] = diskUsage(filepath.Clean(v.Mountpoint))
		}
	}
	names, err := a.store.PruneVolumes(all)
	for _, n := range names {
		freed += size[n]
	}
	a.section("Deleted Volumes:", names)
	return freed, err
}
