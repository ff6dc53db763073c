package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/rootfs"
	"github.com/berth-run/berth/runtime/step"
)

// namespaces: those by path are joined, the others begin with clone3. The
// cgroup namespace comes after, for its root is where the process is by then;
// a time namespace has clocks to be set before anybody is in it.
func (d *decision) namespaces() error {
	var joined []*specs.LinuxNamespace
	for i := range d.spec.Linux.Namespaces {
		n := &d.spec.Linux.Namespaces[i]
		flag := cloneFlag(n.Type)
		switch {
		case flag == 0:
			return fmt.Errorf("unknown namespace %q", n.Type)
		case slices.ContainsFunc(d.spec.Linux.Namespaces[:i], func(o specs.LinuxNamespace) bool { return o.Type == n.Type }):
			return fmt.Errorf("malformed spec file: duplicated ns %q", n.Type)
		case n.Path != "":
			joined = append(joined, n)
		case n.Type != specs.CgroupNamespace && n.Type != specs.TimeNamespace:
			d.child.CloneFlags |= flag
		}
	}
	d.set = rootfs.Setting{Cgroups: d.facts.Cgroups, RootDir: d.config.Rootfs.Dir()}
	d.set.InOrder = d.set.RootDir != ""
	d.set.Peers = rootfs.Propagation(d.spec.Linux.RootfsPropagation)&unix.MS_SHARED != 0
	return d.join(joined)
}

// joinOrder: the user namespace first, for it gives the rights over the others.
var joinOrder = [...]specs.LinuxNamespaceType{specs.UserNamespace, specs.IPCNamespace, specs.UTSNamespace,
	specs.NetworkNamespace, specs.PIDNamespace, specs.MountNamespace, specs.CgroupNamespace, specs.TimeNamespace}

// join: what is to belong to a joined user namespace, and a pid namespace that
// can be joined only from within it, need a second process.
func (d *decision) join(list []*specs.LinuxNamespace) error {
	user := slices.ContainsFunc(list, func(n *specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
	foreign := func(n *specs.LinuxNamespace) bool { // it does not belong to the user namespace that is joined
		return user && n.Type == specs.NetworkNamespace && ownedByCaller(n.Path)
	}
	var before []*specs.LinuxNamespace
	for _, n := range list {
		if foreign(n) {
			before = append(before, n)
		}
	}
	for _, t := range joinOrder {
		for _, n := range list {
			if n.Type == t && !foreign(n) {
				before = append(before, n)
			}
		}
	}
	d.files.ns = make([]file, 0, len(before))
	for _, n := range before {
		if n.Type == specs.PIDNamespace && !user {
			d.pidNS = n.Path // for children of the caller: pid_namespaces(7)
			continue
		}
		d.files.ns = append(d.files.ns, file{path: n.Path, flag: cloneFlag(n.Type)})
		f := &d.files.ns[len(d.files.ns)-1]
		d.add(setNS{at(n.Path, f), f.flag, f.path})
		if n.Type == specs.UserNamespace && d.bare {
			d.hide()
		}
	}
	if user {
		d.hands = true
		d.add(step.Handover{Flags: d.child.CloneFlags &^ unix.CLONE_NEWUSER}, step.NewSession{})
		d.child.CloneFlags = 0
	}
	return nil
}

// userNamespace: everything from here on is done as its root, with rights in it
// and in nothing else.
func (d *decision) userNamespace() error {
	l := d.spec.Linux
	n, own := Namespace(d.spec.Linux, specs.UserNamespace)
	d.set.UserNS = own
	d.set.Trees = own && d.facts.Privileged()
	d.set.NoNodes = own || !d.facts.Privileged()
	_, d.set.CgroupNS = Namespace(d.spec.Linux, specs.CgroupNamespace)
	switch {
	case own && n.Path == "":
		if len(l.UIDMappings) == 0 || len(l.GIDMappings) == 0 {
			return errors.New("user namespaces enabled, but no uid or gid mappings found")
		}
		d.meet(false, "the mappings of ids", (*launch).mapped)
	case own:
	case len(l.UIDMappings)+len(l.GIDMappings) > 0:
		return errors.New("user namespace mappings specified, but user namespace isn't enabled in the config")
	}
	// Clocks before the change of user: that makes files of /proc/self root's.
	if err := d.clocks(); err != nil {
		return err
	}
	if own {
		d.add(step.Credentials{GroupsStay: true})
	}
	if adj := d.spec.Process.OOMScoreAdj; adj != nil && !own {
		d.add(step.WriteFile{Path: "/proc/self/oom_score_adj", Value: fmt.Sprint(*adj)})
	}
	if n, ok := Namespace(d.spec.Linux, specs.NetworkNamespace); ok && n.Path == "" {
		d.add(step.Loopback{})
	}
	return d.mountNamespace()
}

// mountNamespace cuts it off, so that no mount of the container is ever seen outside.
func (d *decision) mountNamespace() (err error) {
	if d.tree, err = d.set.Mounts(d.spec.Mounts, d.root, d.facts); err != nil {
		return err
	}
	d.config.warnings = append(d.config.warnings, d.tree.Warn...)
	d.takes = d.tree.Takes
	d.add(d.tree.First...)
	if _, ok := Namespace(d.spec.Linux, specs.MountNamespace); ok {
		prop := uint64(unix.MS_REC | unix.MS_PRIVATE)
		if p := rootfs.Propagation(d.spec.Linux.RootfsPropagation); p != 0 && p&unix.MS_PRIVATE == 0 || d.tree.Slaves {
			prop = unix.MS_REC | unix.MS_SLAVE
		}
		d.add(step.Propagation{Flags: prop})
		if d.stateDir != "" && !d.facts.Rights() { // else the caller takes it
			d.fifo = &step.Result{Name: "fifo"}
			d.add(step.CloneTree{Path: d.stateDir, All: step.MountAttr{Propagation: unix.MS_PRIVATE}, Tree: d.fifo})
		}
	}
	if n, ok := Namespace(d.spec.Linux, specs.CgroupNamespace); ok && n.Path == "" {
		d.add(step.Unshare{Flags: unix.CLONE_NEWCGROUP})
	}
	return nil
}

func (d *decision) clocks() error {
	n, ok := Namespace(d.spec.Linux, specs.TimeNamespace)
	offsets := d.spec.Linux.TimeOffsets
	switch {
	case !ok && len(offsets) > 0:
		return errors.New("time namespace offsets specified, but time namespace isn't enabled in the config")
	case !ok:
		return nil
	case n.Path != "":
		if len(offsets) > 0 {
			return errors.New("time namespace enabled, but both namespace path and time offsets specified -- you may only provide one")
		}
		return nil
	}
	var b strings.Builder
	for _, clock := range [...]string{"boottime", "monotonic"} {
		if o, ok := offsets[clock]; ok {
			fmt.Fprintf(&b, "%s %d %d\n", clock, o.Secs, o.Nanosecs)
		}
	}
	for clock := range offsets {
		if clock != "boottime" && clock != "monotonic" {
			return fmt.Errorf("time namespace offset for unknown clock %q", clock)
		}
	}
	d.add(step.TimeNamespace{Offsets: b.String()})
	return nil
}

// ownedByCaller tells whether a namespace belongs to the caller's own user
// namespace (ioctl_nsfs(2) NS_GET_USERNS, Linux 4.9).
func ownedByCaller(nsfile string) bool {
	fd, err := unix.Open(nsfile, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	owner, err := unix.IoctlRetInt(fd, unix.NS_GET_USERNS)
	if err != nil {
		return false
	}
	defer unix.Close(owner)
	var own, its unix.Stat_t
	return unix.Fstat(owner, &its) == nil && unix.Stat("/proc/self/ns/user", &own) == nil && own.Ino == its.Ino && own.Dev == its.Dev
}
