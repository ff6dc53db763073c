package container

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/coldjson"
	"github.com/berth-run/berth/image"
	"github.com/berth-run/berth/netns"
)

// Create decides everything that can be decided before the start, takes the
// name and writes the record. The container keeps locked in this process until
// it runs, so that nobody takes it for a leftover. img is nil with @host.
func (s *Store) Create(img *image.Image, o Options) (*Container, error) {
	c, img, root, err := s.begin(img, o)
	if err != nil {
		return nil, err
	}
	defer root.close()
	if err := c.stage(img, root); err != nil {
		return nil, fmt.Errorf("create container: %w", err)
	}
	return c, nil
}

// Draft decides as Create does and writes nothing: for explain. The container
// is good for Spec, Plan and NetworkPlan only.
func (s *Store) Draft(img *image.Image, o Options) (*Container, error) {
	c, img, root, err := s.begin(img, o)
	if err != nil {
		return nil, err
	}
	defer root.close()
	c.Name = first(o.Name, inventName(c.ID, 0))
	wishes, err := s.mountWishes(&c.Options, img.Config.Volumes)
	if err != nil {
		return nil, err
	}
	for _, w := range wishes {
		if w.Type == "volume" {
			w.Source = s.volumeDir(first(w.Name, "NEW")) + "/_data"
		}
		c.Mounts = append(c.Mounts, w.MountPoint)
	}
	_, err = c.prepare()
	return c, err
}

// begin makes the record; the caller closes the layers.
func (s *Store) begin(img *image.Image, o Options) (*Container, *image.Image, *lazyLayers, error) {
	id, err := newID()
	if err != nil {
		return nil, nil, nil, err
	}
	c := &Container{store: s, dir: s.dir(id)}
	c.ID, c.Created, c.Options = id, time.Now().UTC(), o
	if o.Name != "" {
		if err := checkName("container", o.Name); err != nil {
			return nil, nil, nil, err
		}
	}
	if img == nil {
		if o.Image != HostImage {
			return nil, nil, nil, errors.New("create container: no image given")
		}
		img = &image.Image{Config: image.Config{Cmd: []string{"sh"}}}
		c.Lower = []string{"/"}
	}
	root := &lazyLayers{}
	if err := c.decide(img, root); err != nil {
		root.close()
		return nil, nil, nil, err
	}
	return c, img, root, nil
}

// decide fills the record from the image and the options; it writes nothing.
func (c *Container) decide(img *image.Image, root *lazyLayers) error {
	o := &c.Options
	c.Image, c.ImageID = o.Image, img.ID
	if len(img.Names) > 0 {
		c.ImageName = img.Names[0]
	}
	for _, l := range img.Layers {
		c.Lower = append(c.Lower, l.Dir)
	}
	root.lower = c.lowerDirs()
	argv, err := command(&img.Config, o)
	if err != nil {
		return err
	}
	c.Path, c.Args = argv[0], argv[1:]
	c.Entrypoint, c.Cmd = img.Config.Entrypoint, img.Config.Cmd
	if o.Entrypoint != nil {
		c.Entrypoint, c.Cmd = argv[:min(1, len(argv)-len(o.Args))], nil
	}
	if len(o.Args) > 0 {
		c.Cmd = o.Args
	}
	if c.Labels, err = labels(img.Config.Labels, o); err != nil {
		return err
	}
	if err := inlineProfiles(o.SecurityOpt); err != nil {
		return err
	}
	if err := c.checkModes(); err != nil {
		return err
	}
	c.Hostname = c.hostname()
	if c.Cwd, err = workdir(o.Workdir, img.Config.WorkingDir); err != nil {
		return err
	}
	c.StopSignal = first(o.StopSignal, img.Config.StopSignal, "SIGTERM")
	if _, err := ParseSignal(c.StopSignal); err != nil {
		return err
	}
	c.User = first(o.User, img.Config.User)
	if err := c.identify(root); err != nil {
		return err
	}
	c.Exposed = slices.Sorted(maps.Keys(img.Config.ExposedPorts))
	c.Exposed = append(c.Exposed, o.Expose...)
	if c.Ports, err = parsePorts(o, c.Exposed); err != nil {
		return err
	}
	if len(c.Ports) > 0 && !ownNetwork(o.Network) {
		if o.Network != "host" {
			return errors.New("conflicting options: port publishing and the network of another container")
		}
		c.Ports = nil // docker discards them, the ports are the host's anyway
	}
	c.Env, err = environment(img.Config.Env, o, c.Hostname, c.Identity.Home)
	return err
}

func first(s ...string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}

// identify resolves the user in the image's files, with what the container has written on top.
func (c *Container) identify(root *lazyLayers) error {
	m, err := root.open()
	if err != nil {
		return err
	}
	files, err := readUserFiles(m)
	if err != nil {
		return err
	}
	c.Identity, err = files.identity(c.User, c.Options.GroupAdd)
	return err
}

func workdir(flag, img string) (string, error) {
	if flag != "" && flag[0] != '/' {
		return "", fmt.Errorf("the working directory %q is invalid, it needs to be an absolute path", flag)
	}
	return first(flag, img, "/"), nil
}

func (c *Container) hostname() string {
	o := &c.Options
	switch {
	case o.Hostname != "":
		return o.Hostname
	case o.UTS == "host" || o.Network == "host":
		return hostName()
	}
	return short(c.ID)
}

// checkModes validates what is only used at the start, and replaces the names
// of other containers by their ids.
func (c *Container) checkModes() error {
	o := &c.Options
	for _, m := range [...]struct {
		flag string
		mode *string
		ok   string
	}{
		{"network", &o.Network, "bridge none host"},
		{"pid", &o.PID, "host private"},
		{"ipc", &o.IPC, "host private shareable none"},
		{"uts", &o.UTS, "host private"},
		{"cgroupns", &o.Cgroupns, "host private"},
	} {
		name, other := strings.CutPrefix(*m.mode, "container:")
		switch {
		case other && (m.flag == "network" || m.flag == "pid" || m.flag == "ipc"):
			t, err := c.store.Lookup(name)
			if err != nil {
				return fmt.Errorf("--%s %s: %w", m.flag, *m.mode, err)
			}
			*m.mode = "container:" + t.ID
		case m.flag == "network" && (*m.mode == "" || *m.mode == "default"):
			*m.mode = "bridge"
		case *m.mode == "" || slices.Contains(strings.Fields(m.ok), *m.mode):
		case m.flag == "network":
			return fmt.Errorf("%w: %s", ErrNoNetwork, *m.mode)
		default:
			return fmt.Errorf("--%s: invalid mode %q", m.flag, *m.mode)
		}
	}
	if o.UTS == "host" && o.Hostname != "" {
		return errors.New("conflicting options: hostname and the host's UTS namespace")
	}
	if name, _, err := restartPolicy(o.Restart); err != nil {
		return err
	} else if o.Remove && name != "no" {
		return errors.New("conflicting options: cannot specify both --restart and --rm")
	}
	if other := strings.HasPrefix(o.Network, "container:"); other && o.Hostname != "" {
		return errors.New("conflicting options: hostname and the network of another container")
	}
	if err := checkHostname(o.Hostname); err != nil {
		return err
	}
	// any gateway will do: only the syntax is looked at
	if _, err := netns.Hosts("", netip.Addr{}, netip.IPv4Unspecified(), o.AddHost); err != nil {
		return err
	}
	_, err := limits(o)
	return err
}

// restartPolicy reads no, always, unless-stopped, on-failure[:TRIES]; tries is 0 for no limit.
func restartPolicy(s string) (name string, tries int, err error) {
	name, n, has := strings.Cut(s, ":")
	if has {
		if tries, err = strconv.Atoi(n); err != nil || tries < 0 || name != "on-failure" {
			return "", 0, fmt.Errorf("invalid restart policy %q: it is no, always, unless-stopped or on-failure[:TRIES]", s)
		}
	}
	switch name {
	case "":
		name = "no"
	case "no", "always", "unless-stopped", "on-failure":
	default:
		return "", 0, fmt.Errorf("invalid restart policy %q: it is no, always, unless-stopped or on-failure[:TRIES]", s)
	}
	return name, tries, nil
}

// lazyLayers opens the image's layers when somebody first looks into them.
type lazyLayers struct {
	lower []string
	upper string
	view  *image.View
}

func (l *lazyLayers) open() (*image.View, error) {
	if l.view != nil {
		return l.view, nil
	}
	var err error
	l.view, err = image.OpenView(l.lower, l.upper)
	return l.view, err
}

func (l *lazyLayers) close() {
	if l.view != nil {
		l.view.Close()
		l.view = nil
	}
}

// lowerDirs are the layers' absolute paths.
func (c *Container) lowerDirs() []string {
	dirs := make([]string, len(c.Lower))
	for i, l := range c.Lower {
		if !strings.HasPrefix(l, "/") {
			l = c.store.Root + "/" + l
		}
		dirs[i] = l
	}
	return dirs
}

// stage makes the folder under .new-ID, fills it and renames it to ID.
func (c *Container) stage(img *image.Image, root *lazyLayers) error {
	s := c.store
	tmp := s.dir(".new-" + c.ID)
	held, err := newFolder(tmp)
	if err != nil {
		return err
	}
	if err = c.fill(tmp, img, root); err != nil {
		os.RemoveAll(tmp)
		held.Close()
		return err
	}
	c.held = held
	return nil
}

// newFolder makes a folder that sweep leaves alone as long as the file is open.
func newFolder(dir string) (held *os.File, err error) {
	for range 100 {
		if err := makeDir(dir); err != nil {
			return nil, err
		}
		held, err = lockDir(dir, unix.LOCK_EX)
		if !errors.Is(err, fs.ErrNotExist) {
			return held, err
		}
		// a sweep came between the two and took it for a leftover
	}
	return nil, fmt.Errorf("sweeps take every new folder: %w", err)
}

// makeUpper makes the container's own layer. In an overlay the root directory is
// the upper one, so it takes mode, owner and time of the image's.
func (c *Container) makeUpper(dir string) error {
	if err := unix.Mkdir(dir, 0o755); err != nil {
		return err
	}
	lower := c.lowerDirs()
	if len(lower) == 0 {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Stat(lower[len(lower)-1], &st); err != nil {
		return fmt.Errorf("the image's root directory: %w", err)
	}
	return errors.Join(
		unix.Chown(dir, int(st.Uid), int(st.Gid)),
		unix.Chmod(dir, st.Mode&0o7777),
		unix.UtimesNano(dir, []unix.Timespec{st.Atim, st.Mtim}))
}

// fill takes the name, makes volumes, writes config.json, and gives the folder
// its final name. On an error name and volumes are given back.
func (c *Container) fill(tmp string, img *image.Image, root *lazyLayers) (err error) {
	s := c.store
	if err := c.makeUpper(tmp + "/upper"); err != nil {
		return err
	}
	if err := unix.Mkdir(tmp+"/work", 0o700); err != nil {
		return err
	}
	// the beginning of the record, for the name to be a link to
	config, err := os.OpenFile(tmp+"/config.json", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer config.Close()
	if _, err := config.WriteString(idPrefix + c.ID); err != nil {
		return err
	}
	if err := c.takeName(tmp + "/config.json"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			s.freeName(c.Name, c.ID)
			c.dropAnonymous()
		}
	}()
	wishes, err := s.mountWishes(&c.Options, img.Config.Volumes)
	if err != nil {
		return err
	}
	if c.Mounts, err = s.realize(c.ID, wishes, root.open); err != nil {
		return err
	}
	if _, err = c.prepare(); err != nil { // every flag is looked at now, not at the start
		return err
	}
	return c.publish(tmp, config, img)
}

// publish writes the record over its beginning and renames the folder.
func (c *Container) publish(tmp string, config *os.File, img *image.Image) error {
	if img.ID != "" { // it must not be removed between our look at it and the record that uses it
		release, err := c.store.Images.Hold(img.ID)
		if err != nil {
			return err
		}
		defer release()
	}
	b, err := coldjson.Sparse(&c.Record)
	if err != nil {
		return err
	}
	if _, err = config.WriteAt(b, 0); err != nil {
		return err
	}
	return os.Rename(tmp, c.dir)
}

// makeDir makes a folder below containers/, and that on the first use.
func makeDir(dir string) error {
	err := unix.Mkdir(dir, 0o700)
	if err == unix.ENOENT {
		parent := dir[:strings.LastIndexByte(dir, '/')]
		if err := image.MakeFolder(parent); err != nil {
			return err
		}
		spread(parent)
		err = unix.Mkdir(dir, 0o700)
	}
	if err != nil {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	return nil
}

// spread marks a folder whose subfolders have nothing to do with each other
// (chattr +T), so that ext4 puts each into another part of the disk. Without a
// journal it gives no inode out again for 35 seconds and passes over each of
// those one by one: when containers come and go fast in one place, making a
// file takes a millisecond. Other file systems refuse the flag, which is fine.
func spread(dir string) {
	const topdir = 0x20000 // FS_TOPDIR_FL, linux/fs.h
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	if flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS); err == nil {
		unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags|topdir)
	}
}

func (c *Container) takeName(config string) error {
	if c.Name = c.Options.Name; c.Name != "" {
		return c.store.claimName(c.Name, config)
	}
	for try := 0; ; try++ {
		c.Name = inventName(c.ID, try)
		err := c.store.claimName(c.Name, config)
		if !errors.Is(err, ErrInUse) || try > 100 {
			return err
		}
	}
}

// dropAnonymous removes the volumes that only this container has.
func (c *Container) dropAnonymous() error {
	var errs []error
	for _, m := range c.Mounts {
		if m.Type == "volume" && m.Anonymous && m.Name != "" {
			errs = append(errs, c.store.dropVolume(m.Name))
		}
	}
	return errors.Join(errs...)
}

// Close lets go of the lock that Create took; needed only by a process that
// makes a container and lives on without starting it.
func (c *Container) Close() {
	if c.held != nil {
		c.held.Close()
		c.held = nil
	}
}
