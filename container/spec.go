package container

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// facts is all that a spec takes from the host instead of the record: with the
// same record and facts the spec is the same.
type facts struct {
	Bound               uint64   // berth's own bounding set
	Devices             []device // host nodes asked for
	NetNS, PIDNS, IPCNS string   // /proc/PID/ns/… of other containers
	Dir, Root           string   // the container's folder, the state root
	ConsoleSize         *specs.Box
}

// buildSpec turns a record into the OCI spec that is run.
// https://github.com/opencontainers/runtime-spec/blob/v1.3.0/config.md
func buildSpec(r *Record, f facts) (*specs.Spec, error) {
	o := &r.Options
	sec, err := parseSecurity(o.SecurityOpt)
	if err != nil {
		return nil, err
	}
	caps, err := capSet(o.CapAdd, o.CapDrop, o.Privileged, f.Bound)
	if err != nil {
		return nil, err
	}
	limits, err := rlimits(o.Ulimits)
	if err != nil {
		return nil, err
	}
	sys, err := sysctls(o)
	if err != nil {
		return nil, err
	}
	s := &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: "rootfs", Readonly: o.ReadOnly},
		Process: &specs.Process{
			Terminal: o.TTY, ConsoleSize: f.ConsoleSize,
			User: specs.User{UID: r.Identity.UID, GID: r.Identity.GID, AdditionalGids: r.Identity.Groups},
			Args: append([]string{r.Path}, r.Args...), Env: r.Env, Cwd: r.Cwd,
			Capabilities: processCaps(caps, r.Identity.UID), Rlimits: limits,
			NoNewPrivileges: sec.noNewPrivs, OOMScoreAdj: o.OOMScoreAdj, ApparmorProfile: sec.apparmor,
		},
		Mounts: mounts(r, f),
		Linux: &specs.Linux{
			Sysctl: sys, Namespaces: namespaces(o, f),
			Resources: &specs.LinuxResources{Devices: deviceRules(o.Privileged, f.Devices)},
		},
		Annotations: pairs(o.Annotations, "="),
	}
	if slices.ContainsFunc(r.Mounts, func(m MountPoint) bool { return strings.HasSuffix(m.Propagation, "shared") }) {
		s.Linux.RootfsPropagation = "shared" // only then what is mounted in it shows on the host
	}
	for _, d := range f.Devices {
		s.Linux.Devices = append(s.Linux.Devices, d.node)
	}
	if o.UTS != "host" {
		s.Hostname, s.Domainname = r.Hostname, o.Domainname
	}
	if !o.Privileged && !sec.showPaths {
		s.Linux.MaskedPaths = strings.Fields(maskedPaths)
		s.Linux.ReadonlyPaths = strings.Fields(readonlyPaths)
	}
	if r.Image == HostImage { // its own store seen from inside is a loop and none of its business
		s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, f.Root)
	}
	return s, nil
}

// processCaps: with a user that is not root only the bounding set, as docker
// has it, so that set-uid programs work and nothing else does.
func processCaps(set uint64, uid uint32) *specs.LinuxCapabilities {
	list := capList(set)
	if uid != 0 {
		return &specs.LinuxCapabilities{Bounding: list}
	}
	return &specs.LinuxCapabilities{Bounding: list, Effective: list, Permitted: list}
}

func namespaces(o *Options, f facts) []specs.LinuxNamespace {
	ns := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	add := func(typ specs.LinuxNamespaceType, mode, path string) {
		if mode != "host" {
			ns = append(ns, specs.LinuxNamespace{Type: typ, Path: path})
		}
	}
	add(specs.NetworkNamespace, o.Network, f.NetNS)
	add(specs.UTSNamespace, o.UTS, "")
	add(specs.PIDNamespace, o.PID, f.PIDNS)
	add(specs.IPCNamespace, o.IPC, f.IPCNS)
	add(specs.CgroupNamespace, o.Cgroupns, "")
	return ns
}

// mounts are docker's own in its order, the three files of the network, then
// the user's, parents before children. A user's mount replaces one of ours.
func mounts(r *Record, f facts) []specs.Mount {
	o := &r.Options
	ro := "ro"
	if o.Privileged {
		ro = "rw"
	}
	shm := o.ShmSize
	if shm <= 0 {
		shm = 64 << 20
	}
	list := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", ro}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", ro}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(shm, 10)}},
	}
	switch {
	case o.IPC == "host":
		// A new mount of mqueue shows the queues of its IPC namespace (mq_overview(7)):
		// the host's, whether they are mounted there or not.
		list[6] = bind("/dev/shm", "/dev/shm", "nosuid", "noexec", "nodev")
	case o.IPC == "none": // docker: /dev/shm is not mounted
		list = list[:6]
	case strings.HasPrefix(o.IPC, "container:"):
		list[6] = bind(f.Dir+"/shm", "/dev/shm", "nosuid", "noexec", "nodev")
	}
	if r.Image != HostImage || o.Network == "bridge" {
		for _, name := range networkFiles {
			list = append(list, bind(f.Dir+"/"+name, "/etc/"+name))
		}
	}
	for i := range r.Mounts {
		m := &r.Mounts[i]
		list = slices.DeleteFunc(list, func(x specs.Mount) bool { return x.Destination == m.Destination })
		list = append(list, userMount(m))
	}
	return list
}

// networkFiles lie in the container's folder and are mounted below /etc.
var networkFiles = [...]string{"resolv.conf", "hostname", "hosts"}

func bind(src, dst string, options ...string) specs.Mount {
	return specs.Mount{Destination: dst, Type: "bind", Source: src, Options: append([]string{"rbind", "rprivate"}, options...)}
}

func userMount(m *MountPoint) specs.Mount {
	if m.Type == "tmpfs" {
		// docker: nosuid,nodev,noexec unless the options say otherwise
		opts := []string{"nosuid", "nodev", "noexec"}
		for _, o := range m.Options {
			if i := slices.Index(opts, "no"+o); i >= 0 {
				opts = slices.Delete(opts, i, i+1)
				continue
			}
			opts = append(opts, o)
		}
		if !m.RW {
			opts = append(opts, "ro")
		}
		return specs.Mount{Destination: m.Destination, Type: "tmpfs", Source: "tmpfs", Options: opts}
	}
	kind, prop, how := "rbind", m.Propagation, "rw"
	if prop == "" {
		prop = "rprivate"
	}
	if !m.RW {
		how = "rro" // submounts too, as docker from 25 on; mount_setattr(2), Linux 5.12
	}
	var more []string
	for _, o := range m.Options {
		switch o {
		case "nocopy":
		case "bind", "rbind":
			kind = o
		case "ro-top":
			how = "ro"
		default:
			more = append(more, o)
		}
	}
	return specs.Mount{Destination: m.Destination, Type: "bind", Source: m.Source, Options: append([]string{kind, prop, how}, more...)}
}

// gather looks at the host for what the spec needs of it.
func (c *Container) gather() (facts, error) {
	o := &c.Options
	c.unjoined = nil
	f := facts{Bound: boundingSet(), Dir: c.store.dir(c.ID), Root: c.store.Root}
	var err error
	if f.Devices, err = hostDevices(o.Devices); err != nil {
		return f, err
	}
	if o.Privileged {
		f.Devices = append(privilegedDevices(), f.Devices...)
	}
	for _, n := range [...]struct {
		mode, kind string
		path       *string
	}{{o.Network, "net", &f.NetNS}, {o.PID, "pid", &f.PIDNS}, {o.IPC, "ipc", &f.IPCNS}} {
		id, ok := strings.CutPrefix(n.mode, "container:")
		if !ok {
			continue
		}
		t, err := c.store.Lookup(id)
		if err != nil {
			return f, fmt.Errorf("join the %s namespace: %w", n.kind, err)
		}
		st := t.State()
		if st.Status != Running && st.Status != Paused {
			// an error at the start, not when it is made
			c.unjoined = fmt.Errorf("join the %s namespace of container %s: it %w", n.kind, t.Name, ErrNotRunning)
			continue
		}
		if ipc := t.Options.IPC; n.kind == "ipc" && (ipc == "private" || ipc == "none") {
			return f, notShareable(t)
		}
		*n.path = "/proc/" + strconv.Itoa(st.Pid) + "/ns/" + n.kind
	}
	return f, nil
}

// prepare builds the spec of this moment and keeps it for a start that follows at once.
func (c *Container) prepare() (*specs.Spec, error) {
	f, err := c.gather()
	if err != nil {
		return nil, err
	}
	c.spec, err = buildSpec(&c.Record, f)
	return c.spec, err
}

// joins tells whether other containers' namespaces are joined.
func (o *Options) joins() bool {
	return slices.ContainsFunc([]string{o.Network, o.PID, o.IPC}, func(mode string) bool { return strings.HasPrefix(mode, "container:") })
}

// Spec is the OCI spec that a start now would use.
func (c *Container) Spec() (*specs.Spec, error) {
	if c.spec != nil {
		return c.spec, nil
	}
	return c.prepare()
}
