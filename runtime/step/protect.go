package step

import "golang.org/x/sys/unix"

// Inside is a path of the container that is to be protected.
type Inside struct {
	Root   *Result
	Path   string
	Kernel bool // of /proc or /sys: no link may lead there
	Must   bool // it is there; else, what is not there needs no protection
}

// open finds it. Without Must the next skip calls are left out for what is not
// there, or for one of more.
func (p Inside) open(flags uint64, skip int, more ...unix.Errno) Call {
	resolve := uint64(unix.RESOLVE_IN_ROOT)
	if p.Kernel {
		resolve = strictly
	}
	c := openFrom(p.Root, p.Path, flags, resolve)
	if p.Must {
		return c
	}
	return c.may(skip, append(more, unix.ENOENT)...)
}

// ReadOnlyPath makes one part of the container's tree read-only by binding it
// onto itself.
type ReadOnlyPath struct{ Inside }

func (s ReadOnlyPath) String() string { return "read-only: " + s.Path }

// Calls implements Step.
func (s ReadOnlyPath) Calls() []Call {
	at, tree := &Result{Name: "path"}, &Result{Name: "tree"}
	return []Call{
		s.open(0, 3, unix.ENOTDIR).to(at),
		openTree(From(at), "", true).to(tree),
		MountAttr{Set: unix.MOUNT_ATTR_RDONLY}.call(tree, true),
		moveMount(tree, at),
	}
}

// MaskFile hides a file behind /dev/null of the host.
type MaskFile struct{ Inside }

func (s MaskFile) String() string { return "hide " + s.Path }

// Calls implements Step. A directory gives EINVAL, and is hidden by MaskDir.
func (s MaskFile) Calls() []Call {
	at, null := &Result{Name: "path"}, &Result{Name: "null"}
	place := moveMount(null, at)
	if !s.Must {
		place = place.may(0, unix.EINVAL, unix.ENOTDIR)
	}
	return []Call{
		s.open(0, 2, unix.ENOTDIR).to(at),
		openTree(Cwd, "/dev/null", false).to(null),
		place,
	}
}

// EmptyDir makes an empty, read-only file system for MaskDir. It is mounted
// somewhere in the host's tree, in the container's mount namespace only, and
// goes with that tree when the root is entered.
type EmptyDir struct {
	At  string
	Dir *Result
}

func (s EmptyDir) String() string { return "an empty directory, to hide others behind" }

// Calls implements Step.
func (s EmptyDir) Calls() []Call {
	return []Call{
		newCall("mount", unix.SYS_MOUNT, Str("tmpfs"), Str(s.At), Str("tmpfs"), mountFlags(unix.MS_RDONLY), Str("nr_blocks=1,nr_inodes=1")),
		openDir(s.At).to(s.Dir),
	}
}

// MaskDir hides a directory behind the one of EmptyDir.
type MaskDir struct {
	Inside
	Empty *Result
}

func (s MaskDir) String() string { return "hide directory " + s.Path }

// Calls implements Step.
func (s MaskDir) Calls() []Call {
	at, tree := &Result{Name: "path"}, &Result{Name: "tree"}
	return []Call{
		s.open(unix.O_DIRECTORY, 2, unix.ENOTDIR).to(at),
		openTree(From(s.Empty), "", false).to(tree),
		moveMount(tree, at),
	}
}
