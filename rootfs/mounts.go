package rootfs

import (
	"fmt"
	"path"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/step"
)

// Facts is what must be known of the host to decide.
type Facts interface {
	// Kind tells what lies at a path of the host: 'd' a directory, 'f'
	// anything else, 0 nothing.
	Kind(path string) byte
}

// Mounts turns the mounts of a spec into steps. Those in early take trees of
// the host by their paths and stand before the root is mounted, which may hide
// them; the others build the container's tree in the order of the spec.
func Mounts(list []specs.Mount, root *step.Result, f Facts) (early, late []step.Step, err error) {
	for i := range list {
		m := &list[i]
		o, err := parseOptions(m.Options)
		if err != nil {
			return nil, nil, fmt.Errorf("mount on %s: %w", m.Destination, err)
		}
		if !path.IsAbs(m.Destination) {
			return nil, nil, fmt.Errorf("mount on %s: the destination is not an absolute path", m.Destination)
		}
		switch {
		case o.bind || m.Type == "bind":
			e, l, err := bind(m, o, root, f)
			if err != nil {
				return nil, nil, err
			}
			early, late = append(early, e), append(late, l)
		case m.Type == "cgroup" || m.Type == "cgroup2":
			late = append(late, step.MountFS{Root: root, Source: "cgroup2", Type: "cgroup2", Target: m.Destination, Flags: o.flags})
		case m.Type == "":
			return nil, nil, fmt.Errorf("mount on %s: no file system type is given", m.Destination)
		default:
			late = append(late, step.MountFS{Root: root, Source: m.Source, Type: m.Type,
				Target: m.Destination, Flags: o.flags, Data: strings.Join(o.data, ",")})
		}
	}
	return early, late, nil
}

func bind(m *specs.Mount, o *options, root *step.Result, f Facts) (take, put step.Step, err error) {
	kind := f.Kind(m.Source)
	if kind == 0 {
		return nil, nil, fmt.Errorf("mount %s on %s: %w", m.Source, m.Destination, unix.ENOENT)
	}
	tree := &step.Result{Name: "tree_" + strings.Trim(strings.ReplaceAll(path.Clean(m.Destination), "/", "_"), "_")}
	top, all := o.attrs()
	return step.CloneTree{Path: m.Source, Recursive: o.recursive, Top: top, All: all, Tree: tree},
		step.PlaceTree{Root: root, Tree: tree, Target: m.Destination, File: kind != 'd'}, nil
}

// options are the parsed options of one mount (mount(8), and the "r" forms of
// the runtime-spec, config.md, "Linux mount options").
type options struct {
	bind, recursive bool
	flags           uint64 // MS_* set
	clear           uint64 // MS_* named to be off
	propagation     uint64
	recAttr         uint64 // MOUNT_ATTR_* of rro, rnosuid …
	data            []string
}

func parseOptions(list []string) (*options, error) {
	o := &options{}
	for _, s := range list {
		switch set, clear, ok := mountFlag(s); {
		case ok:
			o.flags = o.flags&^clear | set
			o.clear = o.clear&^set | clear
		case s == "bind":
			o.bind = true
		case s == "rbind":
			o.bind, o.recursive = true, true
		case propagation(s) != 0:
			o.propagation = propagation(s)
		case s == "rro" || s == "rnosuid" || s == "rnodev" || s == "rnoexec":
			set, _, _ := mountFlag(s[1:])
			o.recAttr |= attrOf(set)
		case s == "defaults" || s == "":
		default:
			o.data = append(o.data, s)
		}
	}
	return o, nil
}

// mountFlag maps an option's name to the MS_* it sets and clears.
func mountFlag(name string) (set, clear uint64, ok bool) {
	const atime = unix.MS_NOATIME | unix.MS_RELATIME | unix.MS_STRICTATIME
	switch name {
	case "ro":
		return unix.MS_RDONLY, 0, true
	case "rw":
		return 0, unix.MS_RDONLY, true
	case "nosuid":
		return unix.MS_NOSUID, 0, true
	case "suid":
		return 0, unix.MS_NOSUID, true
	case "nodev":
		return unix.MS_NODEV, 0, true
	case "dev":
		return 0, unix.MS_NODEV, true
	case "noexec":
		return unix.MS_NOEXEC, 0, true
	case "exec":
		return 0, unix.MS_NOEXEC, true
	case "sync":
		return unix.MS_SYNCHRONOUS, 0, true
	case "async":
		return 0, unix.MS_SYNCHRONOUS, true
	case "dirsync":
		return unix.MS_DIRSYNC, 0, true
	case "noatime":
		return unix.MS_NOATIME, atime &^ unix.MS_NOATIME, true
	case "atime":
		return 0, unix.MS_NOATIME, true
	case "relatime":
		return unix.MS_RELATIME, atime &^ unix.MS_RELATIME, true
	case "strictatime":
		return unix.MS_STRICTATIME, atime &^ unix.MS_STRICTATIME, true
	case "nodiratime":
		return unix.MS_NODIRATIME, 0, true
	case "diratime":
		return 0, unix.MS_NODIRATIME, true
	case "lazytime":
		return unix.MS_LAZYTIME, 0, true
	case "silent":
		return unix.MS_SILENT, 0, true
	case "nosymfollow":
		return unix.MS_NOSYMFOLLOW, 0, true
	}
	return 0, 0, false
}

func propagation(name string) uint64 {
	rec := uint64(0)
	if len(name) > 1 && name[0] == 'r' {
		name, rec = name[1:], unix.MS_REC
	}
	switch name {
	case "private":
		return unix.MS_PRIVATE | rec
	case "slave":
		return unix.MS_SLAVE | rec
	case "shared":
		return unix.MS_SHARED | rec
	case "unbindable":
		return unix.MS_UNBINDABLE | rec
	}
	return 0
}

// attrOf is the MOUNT_ATTR_* of MS_* flags that belong to a mount, not to a
// file system.
func attrOf(ms uint64) (attr uint64) {
	for _, p := range [...][2]uint64{
		{unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY}, {unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID},
		{unix.MS_NODEV, unix.MOUNT_ATTR_NODEV}, {unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC},
		{unix.MS_NODIRATIME, unix.MOUNT_ATTR_NODIRATIME}, {unix.MS_NOSYMFOLLOW, unix.MOUNT_ATTR_NOSYMFOLLOW},
		{unix.MS_NOATIME, unix.MOUNT_ATTR_NOATIME}, {unix.MS_STRICTATIME, unix.MOUNT_ATTR_STRICTATIME},
	} {
		if ms&p[0] != 0 {
			attr |= p[1]
		}
	}
	return attr
}

// attrs is what a bind mount changes: flags on the top of the tree alone, the
// "r" forms and the propagation on all of it.
func (o *options) attrs() (top, all step.MountAttr) {
	top = step.MountAttr{Set: attrOf(o.flags), Clear: attrOf(o.clear)}
	if (top.Set|top.Clear)&(unix.MOUNT_ATTR_NOATIME|unix.MOUNT_ATTR_STRICTATIME) != 0 {
		top.Clear |= unix.MOUNT_ATTR__ATIME
	}
	all = step.MountAttr{Set: o.recAttr, Propagation: o.propagation &^ unix.MS_REC}
	if all.Propagation == 0 {
		all.Propagation = unix.MS_PRIVATE
	}
	return top, all
}

// Shares tells whether a mount of the list keeps a relation to the host's: then
// the new namespace must not cut it before the trees are taken.
func Shares(list []specs.Mount) bool {
	for i := range list {
		for _, o := range list[i].Options {
			if p := propagation(o); p&(unix.MS_SHARED|unix.MS_SLAVE) != 0 {
				return true
			}
		}
	}
	return false
}
