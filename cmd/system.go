package cmd

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/cgroups"
	"github.com/berth-run/berth/container"
)

func systemCommands() []entry {
	return append(pick("info"),
		entry{name: "df", about: "show what takes the disk space", build: (*app).dfCommand},
		entry{name: "prune", about: "remove what is not used, and what crashes have left", build: (*app).systemPruneCommand})
}

func (a *app) dfCommand() *cli.Command {
	return &cli.Command{
		Usage:  "show what takes the disk space",
		Flags:  []cli.Flag{text("format", "string", "table, json, or a Go template")},
		Action: a.df,
	}
}

// usage is one line of system df.
type usage struct{ Type, TotalCount, Active, Size, Reclaimable string }

// count adds up one kind of things.
type count struct {
	total, active int
	size, unused  int64
}

func (n *count) add(used bool, size int64) {
	n.total++
	n.size += size
	if used {
		n.active++
	} else {
		n.unused += size
	}
}

func (n *count) row(kind string) usage {
	free := humanSize(n.unused, 4)
	if n.size > 0 {
		free += fmt.Sprintf(" (%d%%)", n.unused*100/n.size)
	}
	return usage{kind, strconv.Itoa(n.total), strconv.Itoa(n.active), humanSize(n.size, 4), free}
}

func (a *app) df(c *cli.Context) error {
	if err := a.open(); err != nil {
		return err
	}
	ctrs, err := a.store.List()
	if err != nil {
		return err
	}
	var images, containers, volumes count
	used := map[string]bool{}
	for _, ctr := range ctrs {
		used[ctr.ImageID] = true
		st := ctr.State()
		containers.add(st.Status != container.Created && st.Status != container.Exited, a.written(ctr))
	}
	if images, err = a.layerUsage(used); err != nil {
		return err
	}
	vols, err := a.store.Volumes()
	if err != nil {
		return err
	}
	for _, v := range vols {
		volumes.add(len(a.store.VolumeUsers(v.Name)) > 0, diskUsage(v.Mountpoint))
	}
	return show(a.out, c.String("format"), "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
		usage{"TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"},
		[]usage{images.row("Images"), containers.row("Containers"), volumes.row("Local Volumes")})
}

// layerUsage counts each layer once, however many images share it.
func (a *app) layerUsage(used map[string]bool) (count, error) {
	var n count
	all, err := a.images.List()
	if err != nil {
		return n, err
	}
	inUse, size := map[string]bool{}, map[string]int64{}
	for _, img := range all {
		n.add(used[img.ID], 0)
		for _, l := range img.Layers {
			inUse[l.Dir] = inUse[l.Dir] || used[img.ID]
			if _, ok := size[l.Dir]; !ok {
				size[l.Dir] = diskUsage(filepath.Join(a.root, filepath.Dir(l.Dir)))
			}
		}
	}
	for dir, bytes := range size {
		n.size += bytes
		if !inUse[dir] {
			n.unused += bytes
		}
	}
	return n, nil
}

func (a *app) versionCommand() *cli.Command {
	return &cli.Command{
		Usage: "show the version",
		Flags: []cli.Flag{text("format,f", "string", "json, or a Go template")},
		Action: func(c *cli.Context) error {
			v := version{Version, runtime.Version(), runtime.GOOS, runtime.GOARCH, ""}
			if b, ok := debug.ReadBuildInfo(); ok {
				for _, s := range b.Settings {
					if s.Key == "vcs.revision" {
						v.Commit = s.Value
					}
				}
			}
			// a docker client finds the same facts on both sides
			both := struct{ Client, Server version }{v, v}
			if f := c.String("format"); f != "" {
				return show(a.out, f, "", both, append([]struct{ Client, Server version }{}, both))
			}
			fmt.Fprintf(a.out, "berth version %s (%s %s/%s)\n", v.Version, v.GoVersion, v.Os, v.Arch)
			return nil
		},
	}
}

type version struct{ Version, GoVersion, Os, Arch, Commit string }

func (a *app) infoCommand() *cli.Command {
	return &cli.Command{
		Usage:  "show facts about this host and berth",
		Flags:  []cli.Flag{text("format,f", "string", "json, or a Go template")},
		Action: a.info,
	}
}

// facts is what info shows; names are docker's where docker has them.
type facts struct {
	ServerVersion     string
	DockerRootDir     string
	Containers        int
	ContainersRunning int
	ContainersPaused  int
	ContainersStopped int
	Images            int
	Driver            string
	CgroupDriver      string
	CgroupVersion     string
	CgroupMount       string
	CgroupControllers []string
	KernelVersion     string
	OperatingSystem   string
	OSType            string
	Architecture      string
	NCPU              int
	MemTotal          int64
	Name              string
	Warnings          []string
}

func (a *app) info(c *cli.Context) error {
	if err := a.open(); err != nil {
		return err
	}
	f, err := a.facts()
	if err != nil {
		return err
	}
	if format := c.String("format"); format != "" {
		return show(a.out, format, "", f, []*facts{f})
	}
	fmt.Fprintf(a.out, `Version: %s
Root: %s
Containers: %d (%d running, %d paused, %d stopped)
Images: %d
Storage: overlay, below %s
Cgroups: version 2 at %s, controllers: %s
Kernel: %s
Operating system: %s
Architecture: %s
CPUs: %d
Memory: %s
Name: %s
`, f.ServerVersion, f.DockerRootDir, f.Containers, f.ContainersRunning, f.ContainersPaused, f.ContainersStopped,
		f.Images, f.DockerRootDir, f.CgroupMount, strings.Join(f.CgroupControllers, " "),
		f.KernelVersion, f.OperatingSystem, f.Architecture, f.NCPU, humanSize(f.MemTotal, 4), f.Name)
	for _, w := range f.Warnings {
		a.note("%s", w)
	}
	return nil
}

func (a *app) facts() (*facts, error) {
	f := &facts{ServerVersion: Version, DockerRootDir: a.root, Driver: "overlay2", CgroupDriver: "cgroupfs", CgroupVersion: "2",
		OSType: "linux", Architecture: runtime.GOARCH, NCPU: runtime.NumCPU(), OperatingSystem: osName(), Warnings: []string{}}
	ctrs, err := a.store.List()
	if err != nil {
		return nil, err
	}
	for _, c := range ctrs {
		f.Containers++
		switch st := c.State(); st.Status {
		case container.Running, container.Restarting:
			f.ContainersRunning++
		case container.Paused:
			f.ContainersPaused++
		default:
			f.ContainersStopped++
		}
	}
	images, err := a.images.List()
	if err != nil {
		return nil, err
	}
	f.Images = len(images)
	if h, err := cgroups.Find(); err != nil {
		f.Warnings = append(f.Warnings, err.Error())
	} else {
		f.CgroupMount, f.CgroupControllers = h.Mount, h.Controllers
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		f.KernelVersion, f.Name = unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Nodename[:])
	}
	f.MemTotal = int64(totalMemory())
	return f, nil
}

// totalMemory of the host, bytes.
func totalMemory() uint64 {
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) != nil {
		return 0
	}
	return uint64(si.Totalram) * uint64(si.Unit)
}

// osName is PRETTY_NAME of os-release(5).
func osName() string {
	b, _ := os.ReadFile("/etc/os-release")
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return "Linux"
}
