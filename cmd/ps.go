package cmd

import (
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/container"
)

func (a *app) psCommand() *cli.Command {
	return &cli.Command{
		Usage: "list containers",
		Flags: []cli.Flag{
			yes("all,a", "all containers, not only those that run"),
			list("filter,f", "filter", "only those that fit (name=…, status=…, label=…)"),
			text("format", "string", "table, json, or a Go template"),
			text("last,n", "int", "the last created ones, in any state"),
			yes("latest,l", "the last created one, in any state"),
			yes("no-trunc", "do not shorten"),
			yes("quiet,q", "ids only"),
			yes("size,s", "show how much the container has written"),
		},
		Action: a.ps,
	}
}

// psRow is what --format of ps sees; names are docker's.
type psRow struct {
	Command, CreatedAt, ID, Image, Labels, LocalVolumes, Mounts, Names, Networks, Platform, Ports, RunningFor, Size, State, Status string

	labels map[string]string
}

// Label is the value of one label.
func (r psRow) Label(name string) string {
	if r.labels == nil { // the header
		return name
	}
	return r.labels[name]
}

const psTable = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"

func psHeader() psRow {
	return psRow{Command: "COMMAND", CreatedAt: "CREATED AT", ID: "CONTAINER ID", Image: "IMAGE", Labels: "LABELS",
		LocalVolumes: "LOCAL VOLUMES", Mounts: "MOUNTS", Names: "NAMES", Networks: "NETWORKS", Platform: "PLATFORM",
		Ports: "PORTS", RunningFor: "CREATED", Size: "SIZE", State: "STATE", Status: "STATUS"}
}

func (a *app) ps(c *cli.Context) error {
	f, err := parseFilters(c.StringSlice("filter"),
		"ancestor", "before", "exited", "id", "label", "name", "network", "since", "status", "volume")
	if err != nil {
		return err
	}
	r := &flagReader{c: c}
	last, limited := r.number("last", -1, math.MaxInt32)
	if r.err != nil {
		return r.err
	}
	if c.Bool("latest") {
		last, limited = 1, true
	}
	limited = limited && last >= 0
	if err := a.open(); err != nil {
		return err
	}
	all, err := a.store.List()
	if err != nil {
		return err
	}
	p := &psFilter{a: a, f: f, all: c.Bool("all") || limited || len(f["status"])+len(f["exited"]) > 0}
	if err := p.times(all); err != nil {
		return err
	}
	var rows []psRow
	for _, ctr := range all {
		if limited && int64(len(rows)) >= last {
			break
		}
		st := ctr.State()
		if p.fits(ctr, &st) {
			rows = append(rows, a.psRow(ctr, &st, c.Bool("no-trunc"), c.Bool("size")))
		}
	}
	format, standard := c.String("format"), psTable
	if c.Bool("size") {
		standard += "\t{{.Size}}"
	}
	if c.Bool("quiet") {
		format = "{{.ID}}"
	}
	return show(a.out, format, standard, psHeader(), rows)
}

// psFilter decides which containers ps shows.
type psFilter struct {
	a             *app
	f             filters
	all           bool
	before, since time.Time
	ancestors     []string // image ids
}

// times resolves the filters that name another container or an image.
func (p *psFilter) times(all []*container.Container) error {
	for key, t := range map[string]*time.Time{"before": &p.before, "since": &p.since} {
		for _, name := range p.f[key] {
			c, err := p.a.store.Lookup(name)
			if err != nil {
				return err
			}
			*t = c.Created
		}
	}
	for _, ref := range p.f["ancestor"] {
		if img, err := p.a.images.Get(ref); err == nil {
			p.ancestors = append(p.ancestors, img.ID)
		}
	}
	return nil
}

func (p *psFilter) fits(c *container.Container, st *container.State) bool {
	f := p.f
	if !p.all && st.Status != container.Running && st.Status != container.Paused && st.Status != container.Restarting {
		return false
	}
	if !p.before.IsZero() && !c.Created.Before(p.before) || !p.since.IsZero() && !c.Created.After(p.since) {
		return false
	}
	return f.name(c.Name) && f.labels(c.Labels) &&
		f.any("id", func(v string) bool { return strings.HasPrefix(c.ID, v) }) &&
		f.any("status", func(v string) bool { return string(st.Status) == v }) &&
		f.any("exited", func(v string) bool { return st.Status == container.Exited && strconv.Itoa(st.ExitCode) == v }) &&
		f.any("network", func(v string) bool { return c.Options.Network == v }) &&
		f.any("volume", func(v string) bool {
			for _, m := range c.Mounts {
				if m.Name == v || m.Source == v || m.Destination == v {
					return true
				}
			}
			return false
		}) &&
		f.any("ancestor", func(v string) bool {
			for _, id := range p.ancestors {
				if id == c.ImageID {
					return true
				}
			}
			return c.Image == v || c.ImageName == v
		})
}

func (a *app) psRow(c *container.Container, st *container.State, whole, size bool) psRow {
	id, cmd := c.ID, strings.Join(append([]string{c.Path}, c.Args...), " ")
	if !whole {
		id, cmd = short(id), ellipsis(cmd, 20)
	}
	r := psRow{
		ID: id, Image: c.Image, Command: strconv.Quote(cmd), Names: c.Name, State: string(st.Status), Status: statusText(st),
		CreatedAt: c.Created.Local().Format("2006-01-02 15:04:05 -0700 MST"), RunningFor: ago(c.Created),
		Networks: c.Options.Network, Platform: "linux", labels: c.Labels,
	}
	if r.labels == nil {
		r.labels = map[string]string{}
	}
	for k, v := range c.Labels {
		r.Labels = join(r.Labels, ",", k+"="+v)
	}
	sorted := strings.Split(r.Labels, ",")
	sort.Strings(sorted)
	r.Labels = strings.Join(sorted, ",")
	volumes := 0
	for _, m := range c.Mounts {
		name := m.Source
		if m.Type == "volume" {
			name = m.Name
			volumes++
		}
		if !whole {
			name = ellipsis(name, 15)
		}
		r.Mounts = join(r.Mounts, ",", name)
	}
	r.LocalVolumes = strconv.Itoa(volumes)
	r.Ports = portList(c, st)
	if size {
		r.Size = humanSize(a.written(c), 3)
	}
	return r
}

// portList is the published ports of a running container, then the exposed ones.
func portList(c *container.Container, st *container.State) string {
	if st.Pid == 0 {
		return ""
	}
	out, published := "", map[string]bool{}
	for _, p := range st.Network.Ports {
		out = join(out, ", ", p.String())
		published[fmt.Sprintf("%d/%s", p.ContainerPort, p.Proto)] = true
	}
	for _, e := range c.Exposed {
		if !strings.Contains(e, "/") {
			e += "/tcp"
		}
		if !published[e] {
			out = join(out, ", ", e)
		}
	}
	return out
}

func join(list, sep, s string) string {
	if list == "" {
		return s
	}
	return list + sep + s
}

func statusText(st *container.State) string {
	switch st.Status {
	case container.Running:
		return "Up " + humanTime(time.Since(st.StartedAt))
	case container.Paused:
		return "Up " + humanTime(time.Since(st.StartedAt)) + " (Paused)"
	case container.Exited:
		return fmt.Sprintf("Exited (%d) %s", st.ExitCode, ago(st.FinishedAt))
	case container.Restarting:
		return fmt.Sprintf("Restarting (%d) %s", st.ExitCode, ago(st.FinishedAt))
	}
	return "Created"
}

// written is how many bytes the container's own layer takes on the disk.
func (a *app) written(c *container.Container) int64 {
	return diskUsage(filepath.Join(a.root, "containers", c.ID, "upper"))
}

// diskUsage sums the blocks of all files below dir. What cannot be read counts nothing.
func diskUsage(dir string) int64 {
	var sum int64
	seen := map[[2]uint64]bool{} // hard links count once
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err != nil || unix.Lstat(path, &st) != nil || d.IsDir() {
			return nil
		}
		key := [2]uint64{st.Dev, st.Ino}
		if st.Nlink == 1 || !seen[key] {
			sum += st.Blocks * 512
		}
		if st.Nlink > 1 {
			seen[key] = true
		}
		return nil
	})
	return sum
}
