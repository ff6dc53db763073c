package rootfs

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/step"
)

// options are the parsed options of one mount (mount(8), and the "r" forms of
// the runtime-spec, config.md, "Linux mount options").
type options struct {
	bind, recursive      bool
	flags                uint64 // MS_* set
	clear                uint64 // MS_* named to be off
	propagation          uint64
	recSet, recClear     uint64 // MOUNT_ATTR_* of rro, rrw, rnosuid …
	idmap, ridmap        bool
	copyUp               bool // tmpfs: begins with what lies at the target
	srcNoFollow, dstOnly bool // links at the end of source and target are not followed
	data                 []string
}

// flagTable maps names to the bits they set and clear. An array and not a map:
// a map would be filled at every start of the program.
type flagTable []struct {
	name       string
	set, clear uint64
}

func (t flagTable) find(name string) (set, clear uint64, ok bool) {
	for i := range t {
		if t[i].name == name {
			return t[i].set, t[i].clear, true
		}
	}
	return 0, 0, false
}

const atimes = unix.MS_NOATIME | unix.MS_RELATIME | unix.MS_STRICTATIME

// mountFlags maps an option's name to the MS_* it sets and clears.
var mountFlags = flagTable{
	{"ro", unix.MS_RDONLY, 0}, {"rw", 0, unix.MS_RDONLY},
	{"nosuid", unix.MS_NOSUID, 0}, {"suid", 0, unix.MS_NOSUID},
	{"nodev", unix.MS_NODEV, 0}, {"dev", 0, unix.MS_NODEV},
	{"noexec", unix.MS_NOEXEC, 0}, {"exec", 0, unix.MS_NOEXEC},
	{"sync", unix.MS_SYNCHRONOUS, 0}, {"async", 0, unix.MS_SYNCHRONOUS},
	{"dirsync", unix.MS_DIRSYNC, 0},
	{"noatime", unix.MS_NOATIME, atimes &^ unix.MS_NOATIME}, {"atime", 0, unix.MS_NOATIME},
	{"relatime", unix.MS_RELATIME, atimes &^ unix.MS_RELATIME}, {"norelatime", 0, unix.MS_RELATIME},
	{"strictatime", unix.MS_STRICTATIME, atimes &^ unix.MS_STRICTATIME}, {"nostrictatime", 0, unix.MS_STRICTATIME},
	{"nodiratime", unix.MS_NODIRATIME, 0}, {"diratime", 0, unix.MS_NODIRATIME},
	{"lazytime", unix.MS_LAZYTIME, 0}, {"nolazytime", 0, unix.MS_LAZYTIME},
	{"mand", unix.MS_MANDLOCK, 0}, {"nomand", 0, unix.MS_MANDLOCK},
	{"iversion", unix.MS_I_VERSION, 0}, {"noiversion", 0, unix.MS_I_VERSION},
	{"silent", unix.MS_SILENT, 0}, {"loud", 0, unix.MS_SILENT},
	{"nosymfollow", unix.MS_NOSYMFOLLOW, 0}, {"symfollow", 0, unix.MS_NOSYMFOLLOW},
	{"remount", unix.MS_REMOUNT, 0}, {"acl", unix.MS_POSIXACL, 0}, {"noacl", 0, unix.MS_POSIXACL},
}

// recursive maps the "r" forms to the MOUNT_ATTR_* they set and clear
// (mount_setattr(2)). Of the three ways to keep access times one is a value of 0.
var recursiveAttrs = flagTable{
	{"rro", unix.MOUNT_ATTR_RDONLY, 0}, {"rrw", 0, unix.MOUNT_ATTR_RDONLY},
	{"rnosuid", unix.MOUNT_ATTR_NOSUID, 0}, {"rsuid", 0, unix.MOUNT_ATTR_NOSUID},
	{"rnodev", unix.MOUNT_ATTR_NODEV, 0}, {"rdev", 0, unix.MOUNT_ATTR_NODEV},
	{"rnoexec", unix.MOUNT_ATTR_NOEXEC, 0}, {"rexec", 0, unix.MOUNT_ATTR_NOEXEC},
	{"rnodiratime", unix.MOUNT_ATTR_NODIRATIME, 0}, {"rdiratime", 0, unix.MOUNT_ATTR_NODIRATIME},
	{"rrelatime", unix.MOUNT_ATTR_RELATIME, unix.MOUNT_ATTR__ATIME}, {"rnorelatime", 0, 0}, // it is 0, and cannot be taken away
	{"rnoatime", unix.MOUNT_ATTR_NOATIME, unix.MOUNT_ATTR__ATIME}, {"ratime", unix.MOUNT_ATTR_RELATIME, unix.MOUNT_ATTR__ATIME},
	{"rstrictatime", unix.MOUNT_ATTR_STRICTATIME, unix.MOUNT_ATTR__ATIME}, {"rnostrictatime", unix.MOUNT_ATTR_RELATIME, unix.MOUNT_ATTR__ATIME},
	{"rnosymfollow", unix.MOUNT_ATTR_NOSYMFOLLOW, 0}, {"rsymfollow", 0, unix.MOUNT_ATTR_NOSYMFOLLOW},
}

var otherOptions = []string{"bind", "rbind", "defaults", "idmap", "ridmap", "tmpcopyup", "src-nofollow", "dest-nofollow",
	"private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"}

// MountOptions are the options that are understood, for the command features;
// all others are handed to the file system.
func MountOptions() []string {
	out := slices.Clone(otherOptions)
	for _, t := range []flagTable{mountFlags, recursiveAttrs} {
		for i := range t {
			out = append(out, t[i].name)
		}
	}
	slices.Sort(out)
	return out
}

func parseOptions(list []string) *options {
	o := &options{}
	for _, s := range list {
		if set, clear, ok := mountFlags.find(s); ok {
			o.flags, o.clear = o.flags&^clear|set, o.clear&^set|clear
			continue
		}
		if set, clear, ok := recursiveAttrs.find(s); ok {
			o.recSet, o.recClear = o.recSet&^clear|set, o.recClear&^set|clear
			continue
		}
		if p := propagation(s); p != 0 {
			o.propagation = p
			continue
		}
		o.other(s)
	}
	return o
}

func (o *options) other(s string) {
	switch s {
	case "bind":
		o.bind = true
	case "rbind":
		o.bind, o.recursive = true, true
	case "idmap":
		o.idmap = true
	case "ridmap":
		o.idmap, o.ridmap = true, true
	case "tmpcopyup":
		o.copyUp = true
	case "src-nofollow":
		o.srcNoFollow = true
	case "dest-nofollow":
		o.dstOnly = true
	case "defaults", "":
	default:
		o.data = append(o.data, s)
	}
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

// Propagation is the MS_* of a propagation's name, such as a spec's
// rootfsPropagation; 0 for one unknown.
func Propagation(name string) uint64 { return propagation(name) }

// perMount pairs MS_* that belong to a mount, not to a file system, with their
// MOUNT_ATTR_*.
var perMount = [...][2]uint64{
	{unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY}, {unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID},
	{unix.MS_NODEV, unix.MOUNT_ATTR_NODEV}, {unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC},
	{unix.MS_NODIRATIME, unix.MOUNT_ATTR_NODIRATIME}, {unix.MS_NOSYMFOLLOW, unix.MOUNT_ATTR_NOSYMFOLLOW},
}

func attrOf(ms uint64) (attr uint64) {
	for _, p := range perMount {
		if ms&p[0] != 0 {
			attr |= p[1]
		}
	}
	return attr
}

// attrs is what a bind mount changes: flags on the top of the tree alone, the
// "r" forms and the propagation on all of it. As with mount(8), a bind mount for
// which any flag is named loses those that are not; access times change only
// when a way to keep them is set.
func (o *options) attrs() (top, all step.MountAttr) {
	named := (o.flags | o.clear) &^ unix.MS_REMOUNT
	if named != 0 {
		top.Set = attrOf(o.flags)
		for _, p := range perMount {
			if top.Set&p[1] == 0 {
				top.Clear |= p[1]
			}
		}
	}
	switch {
	case o.flags&unix.MS_STRICTATIME != 0:
		top.Set, top.Clear = top.Set|unix.MOUNT_ATTR_STRICTATIME, top.Clear|unix.MOUNT_ATTR__ATIME
	case o.flags&unix.MS_NOATIME != 0:
		top.Set, top.Clear = top.Set|unix.MOUNT_ATTR_NOATIME, top.Clear|unix.MOUNT_ATTR__ATIME
	case o.flags&unix.MS_RELATIME != 0:
		top.Clear |= unix.MOUNT_ATTR__ATIME // MOUNT_ATTR_RELATIME is 0
	}
	all = step.MountAttr{Set: o.recSet, Clear: o.recClear, Propagation: o.propagation &^ unix.MS_REC}
	if all.Propagation == 0 {
		all.Propagation = unix.MS_PRIVATE
	}
	return top, all
}

// joined is the data of the mount call.
func (o *options) joined() string { return strings.Join(o.data, ",") }
