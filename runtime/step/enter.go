package step

import (
	"golang.org/x/sys/unix"
)

// PivotRoot makes Root the root of the mount namespace and lets go of the
// host's. The old root comes to lie on top of the new one at the same place, so
// no directory for it is needed; detaching it uncovers the new (pivot_root(2)).
type PivotRoot struct{ Root *Result }

func (s PivotRoot) String() string { return "enter the root and let go of the host's" }

// Calls implements Step.
func (s PivotRoot) Calls() []Call {
	return []Call{
		newCall("fchdir", unix.SYS_FCHDIR, From(s.Root)),
		newCall("pivot_root", unix.SYS_PIVOT_ROOT, Str("."), Str(".")),
		newCall("umount2", unix.SYS_UMOUNT2, Str("."), Flags(unix.MNT_DETACH, "MNT_DETACH")),
		newCall("chdir", unix.SYS_CHDIR, Str("/")),
	}
}

// MoveRoot is PivotRoot for a host whose own root is a ramdisk, which cannot be
// pivoted away from (--no-pivot): the root is moved over the host's and entered
// by chroot. Mounts of the host's /proc and /sys are let go before, else the
// container could mount new ones without masks: the kernel lets it have again what it
// still sees somewhere (mount_too_revealing in fs/namespace.c).
type MoveRoot struct {
	Root  *Result
	LetGo []string // where the host has proc and sysfs mounted, once for each mount
}

func (s MoveRoot) String() string { return "move the root over the host's and enter it" }

// Calls implements Step.
func (s MoveRoot) Calls() []Call {
	calls := []Call{newCall("fchdir", unix.SYS_FCHDIR, From(s.Root))}
	for _, p := range s.LetGo {
		calls = append(calls, newCall("umount2", unix.SYS_UMOUNT2, Str(p), Flags(unix.MNT_DETACH, "MNT_DETACH")).may(0, unix.EINVAL, unix.ENOENT))
	}
	return append(calls,
		newCall("mount", unix.SYS_MOUNT, Str("."), Str("/"), Null, mountFlags(unix.MS_MOVE), Null),
		newCall("chroot", unix.SYS_CHROOT, Str(".")),
		newCall("chdir", unix.SYS_CHDIR, Str("/")))
}

// Chroot enters the root without a mount namespace of the container's own.
type Chroot struct{ Root *Result }

func (s Chroot) String() string { return "enter the root, in the host's mount namespace" }

// Calls implements Step.
func (s Chroot) Calls() []Call {
	return []Call{
		newCall("fchdir", unix.SYS_FCHDIR, From(s.Root)),
		newCall("chroot", unix.SYS_CHROOT, Str(".")),
	}
}

// Chdir sets the working directory by a path of the container that passes no
// magic link: such a link could lead out (CVE-2024-21626). It stands before the
// change of user; with Cwd, ChdirAgain behind it tries once more, for a directory
// that only the user may enter.
type Chdir struct {
	Path string
	Cwd  *Result // nil: there is no second try
}

func (s Chdir) String() string { return "working directory " + s.Path }

// Calls implements Step.
func (s Chdir) Calls() []Call {
	calls := chdir(s.Path, s.Cwd)
	if s.Cwd != nil {
		calls[0] = calls[0].may(2, unix.EACCES)
		calls[1] = calls[1].may(0, unix.EACCES)
		calls[1].Then = 1 // it stays open, by which ChdirAgain knows
	}
	return calls
}

func chdir(path string, cwd *Result) []Call {
	if cwd == nil {
		cwd = &Result{Name: "cwd"}
	}
	flags := uint64(unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC)
	return []Call{
		newCall("openat2", unix.SYS_OPENAT2, Cwd, Str(path), openHow(flags, unix.RESOLVE_NO_MAGICLINKS), Int(24)).to(cwd),
		newCall("fchdir", unix.SYS_FCHDIR, From(cwd)),
		newCall("close", unix.SYS_CLOSE, From(cwd)),
	}
}

// ChdirAgain is the second try, when the first gave EACCES.
type ChdirAgain struct {
	Path string
	Cwd  *Result // -1 if the first failed
}

func (s ChdirAgain) String() string {
	return "working directory " + s.Path + ", if it was not entered yet"
}

// Calls implements Step.
func (s ChdirAgain) Calls() []Call {
	done := newCall("close", unix.SYS_CLOSE, From(s.Cwd)).may(0, unix.EBADF)
	done.Then = 3
	return append([]Call{done}, chdir(s.Path, nil)...)
}
