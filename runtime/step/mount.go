package step

import (
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Propagation decides what of later mounts passes between the host and the new
// mount namespace (mount_namespaces(7)). It stands first, so that no mount of
// the container is ever seen outside.
type Propagation struct{ Flags uint64 } // MS_REC|MS_SLAVE

func (s Propagation) String() string {
	return "mounts pass between host and container: " + mountFlags(s.Flags).Text()
}

// Calls implements Step.
func (s Propagation) Calls() []Call {
	return []Call{newCall("mount", unix.SYS_MOUNT, Null, Str("/"), Null, mountFlags(s.Flags), Null)}
}

// BindRoot makes a directory of the host the root: bound onto itself, for
// pivot_root wants a mount.
type BindRoot struct {
	Path string
	Root *Result
}

func (s BindRoot) String() string { return "the root: " + s.Path }

// Calls implements Step.
func (s BindRoot) Calls() []Call {
	return []Call{
		newCall("mount", unix.SYS_MOUNT, Str(s.Path), Str(s.Path), Null, mountFlags(unix.MS_BIND|unix.MS_REC), Null),
		openDir(s.Path).to(s.Root),
	}
}

func openDir(p string) Call {
	return newCall("openat", unix.SYS_OPENAT, Cwd, Str(p),
		Flags(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, "O_PATH|O_DIRECTORY|O_CLOEXEC"))
}

// openIn resolves a path of the container as the container would, and never
// leaves root: neither by "..", nor by links, nor by the magic links of /proc
// (openat2(2), Linux 5.6).
func openIn(root *Result, name string, flags uint64) Call {
	return openFrom(root, name, flags, unix.RESOLVE_IN_ROOT)
}

// Strictly is for what the kernel's own file systems are mounted on, and for
// what is hidden of them: an image must not lead either elsewhere by links.
const strictly = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS

func openFrom(root *Result, name string, flags, resolve uint64) Call {
	flags |= unix.O_PATH | unix.O_CLOEXEC
	return newCall("openat2", unix.SYS_OPENAT2, From(root), Str(relative(name)), openHow(flags, resolve), Int(24))
}

// hows are the struct open_how that plans are full of: made once for all.
var hows = [...]Memory{
	{Words: []uint64{unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, 0, unix.RESOLVE_IN_ROOT}},
	{Words: []uint64{unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, 0, strictly}},
	{Words: []uint64{unix.O_PATH | unix.O_CLOEXEC, 0, unix.RESOLVE_IN_ROOT}},
	{Words: []uint64{unix.O_PATH | unix.O_CLOEXEC, 0, strictly}},
}

// openHow is struct open_how.
func openHow(flags, resolve uint64) Arg {
	for i := range hows {
		if w := hows[i].Words; w[0] == flags && w[2] == resolve {
			return Arg{To: &hows[i], show: showHow}
		}
	}
	return Arg{To: &Memory{Words: []uint64{flags, 0, resolve}}, show: showHow}
}

func showHow(a Arg) string {
	return "{" + openFlags(a.To.Words[0]) + ", " + names(a.To.Words[2], []flagName{{unix.RESOLVE_IN_ROOT, "RESOLVE_IN_ROOT"},
		{unix.RESOLVE_NO_SYMLINKS, "RESOLVE_NO_SYMLINKS"}, {unix.RESOLVE_NO_MAGICLINKS, "RESOLVE_NO_MAGICLINKS"}}) + "}"
}

// relative is a cleaned path below the root, "." for the root itself.
func relative(name string) string {
	if clean := path.Clean(name); len(clean) > 1 && clean[0] == '/' {
		return clean[1:]
	}
	name = path.Clean("/" + name)[1:]
	if name == "" {
		return "."
	}
	return name
}

// makeDirs creates the directories of name that are missing.
func makeDirs(root *Result, name string, mode uint32, resolve uint64) []Call {
	var calls []Call
	parent := root
	rel := relative(name)
	for from := 0; rel != "." && from < len(rel); {
		end := len(rel)
		if i := strings.IndexByte(rel[from:], '/'); i >= 0 {
			end = from + i
		}
		if from > 0 {
			parent = &Result{Name: "parent"}
			calls = append(calls, openFrom(root, rel[:from-1], unix.O_DIRECTORY, resolve).to(parent))
		}
		calls = append(calls, newCall("mkdirat", unix.SYS_MKDIRAT, From(parent), Str(rel[from:end]), Octal(mode)).may(0, unix.EEXIST))
		from = end + 1
	}
	return calls
}

// openDirIn opens a directory and creates what of it is missing. Most are there,
// so it first looks: that costs less than a mkdir of what is there.
func openDirIn(root *Result, name string, flags, resolve uint64, dir *Result) []Call {
	open := openFrom(root, name, flags|unix.O_DIRECTORY, resolve).to(dir)
	make := makeDirs(root, name, 0o755, resolve)
	if len(make) == 0 {
		return []Call{open}
	}
	first := open.may(0, unix.ENOENT)
	first.Then = len(make) + 1
	return append(append([]Call{first}, make...), open)
}

// makeFile creates an empty file to mount upon, and its directories.
func makeFile(root *Result, name string) []Call {
	rel := relative(name)
	dir, parent := path.Dir(rel), root
	var calls []Call
	if dir != "." {
		parent = &Result{Name: "parent"}
		calls = openDirIn(root, dir, 0, unix.RESOLVE_IN_ROOT, parent)
	}
	return append(calls, newCall("mknodat", unix.SYS_MKNODAT, From(parent), Str(path.Base(rel)),
		Flags(unix.S_IFREG|0o644, "S_IFREG|0644"), Int(0)).may(0, unix.EEXIST))
}

// MakeDir creates a directory of the container that an image does not bring.
type MakeDir struct {
	Root *Result
	Path string
	Mode uint32
}

func (s MakeDir) String() string { return "mkdir -p " + s.Path }

// Calls implements Step.
func (s MakeDir) Calls() []Call {
	c := makeDirs(s.Root, s.Path, s.Mode, unix.RESOLVE_IN_ROOT)
	if len(c) == 0 { // the root itself
		c = []Call{openIn(s.Root, s.Path, unix.O_DIRECTORY)}
	}
	return c
}

// MountFS mounts a new file system on a directory of the container. The
// directory is entered by descriptor and mounted upon as ".": a path that could
// change between check and use is never given to mount(2).
type MountFS struct {
	Root         *Result
	Source, Type string
	Target       string
	Flags        uint64
	Propagation  uint64 // MS_SHARED … for the new mount, 0: that of its parent
	Data         string
	Ordinary     bool // no link may lead to the target: what hides parts of the file system goes by the same path
	There        bool // it may lie there already, with a tree that was bound: EBUSY
	NoCreate     bool // the target is there: made by an earlier step, or part of a kernel file system
}

func (s MountFS) String() string { return fmt.Sprintf("%s on %s", s.Type, s.Target) }

// Calls implements Step.
func (s MountFS) Calls() []Call {
	t := &Result{Name: "target"}
	data := Null
	if s.Data != "" {
		data = Str(s.Data)
	}
	resolve := uint64(unix.RESOLVE_IN_ROOT)
	if s.Ordinary {
		resolve = strictly
	}
	var calls []Call
	if s.NoCreate {
		calls = []Call{openFrom(s.Root, s.Target, unix.O_DIRECTORY, resolve).to(t)}
	} else {
		calls = openDirIn(s.Root, s.Target, 0, resolve, t)
	}
	calls = append(calls,
		newCall("fchdir", unix.SYS_FCHDIR, From(t)),
		newCall("mount", unix.SYS_MOUNT, Str(s.Source), Str("."), Str(s.Type), mountFlags(s.Flags), data))
	if s.There {
		calls[len(calls)-1] = calls[len(calls)-1].may(0, unix.EBUSY)
	}
	if s.Propagation != 0 {
		// The mount lies on the directory now: the same path leads to it.
		top := &Result{Name: "top"}
		calls = append(calls, openFrom(s.Root, s.Target, unix.O_DIRECTORY, resolve).to(top),
			MountAttr{Propagation: s.Propagation &^ unix.MS_REC}.call(top, s.Propagation&unix.MS_REC != 0))
	}
	return calls
}

// CloneTree takes a mount of the host, or a part of one, by its path: a bind
// mount that is not placed yet (open_tree(2), Linux 5.2). All of them stand
// before the root is mounted, where paths are the host's.
type CloneTree struct {
	Path      string
	Recursive bool
	NoFollow  bool      // a link at its end is taken itself
	Top, All  MountAttr // of the mount itself, and of all below it too
	Tree      *Result
}

func (s CloneTree) String() string {
	return "take " + s.Path + " of the host" + s.Top.suffix() + s.All.suffix()
}

// Calls implements Step.
func (s CloneTree) Calls() []Call {
	take := openTree(Cwd, s.Path, s.Recursive)
	if s.NoFollow {
		take.Args[2] = Flags(take.Args[2].Value|unix.AT_SYMLINK_NOFOLLOW, take.Args[2].Text()+"|AT_SYMLINK_NOFOLLOW")
	}
	calls := []Call{take.to(s.Tree)}
	top, all := s.Top, s.All
	if !s.Recursive { // one call does both
		top.Set, top.Clear, top.Propagation, all = top.Set|all.Set, top.Clear|all.Clear, all.Propagation, MountAttr{}
	}
	if !top.zero() {
		calls = append(calls, top.call(s.Tree, false))
	}
	if !all.zero() {
		calls = append(calls, all.call(s.Tree, s.Recursive))
	}
	return calls
}

func openTree(dir Arg, name string, recursive bool) Call {
	flags := uint64(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	text := "OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC"
	if name == "" {
		flags, text = flags|unix.AT_EMPTY_PATH, text+"|AT_EMPTY_PATH"
	}
	if recursive {
		flags, text = flags|unix.AT_RECURSIVE, text+"|AT_RECURSIVE"
	}
	return newCall("open_tree", unix.SYS_OPEN_TREE, dir, Str(name), Flags(flags, text))
}

// NewTree makes a mount of a kernel file system that is not placed yet. mount(2)
// refuses one on a mount of the same file system (EBUSY), such as cgroup2 where
// /sys was bound with all that lies in it; move_mount(2) does not.
type NewTree struct {
	Type  string
	Attrs uint64 // MOUNT_ATTR_*
	Tree  *Result
}

func (s NewTree) String() string { return "a " + s.Type + " that lies nowhere yet" }

// Calls implements Step.
func (s NewTree) Calls() []Call {
	fs := &Result{Name: "fs"}
	return []Call{
		newCall("fsopen", unix.SYS_FSOPEN, Str(s.Type), Flags(unix.FSOPEN_CLOEXEC, "FSOPEN_CLOEXEC")).to(fs),
		newCall("fsconfig", unix.SYS_FSCONFIG, From(fs), Flags(unix.FSCONFIG_CMD_CREATE, "FSCONFIG_CMD_CREATE"), Null, Null, Int(0)),
		newCall("fsmount", unix.SYS_FSMOUNT, From(fs), Flags(unix.FSMOUNT_CLOEXEC, "FSMOUNT_CLOEXEC"), Flags(s.Attrs, attrNames(s.Attrs))).to(s.Tree),
		newCall("close", unix.SYS_CLOSE, From(fs)),
	}
}

// PlaceTree puts a tree taken by CloneTree on a path of the container, which is
// created if it is missing: a directory, or a file for a file.
type PlaceTree struct {
	Root     *Result
	Tree     *Result
	Given    *Arg // in place of Tree: a descriptor of the parent
	Target   string
	File     bool
	NoFollow bool // a link at the target's end is mounted upon itself
}

func (s PlaceTree) String() string { return "bind it to " + s.Target }

// Calls implements Step.
func (s PlaceTree) Calls() []Call {
	t := &Result{Name: "target"}
	var calls []Call
	flags := uint64(0)
	if s.NoFollow {
		flags = unix.O_NOFOLLOW
	}
	if s.File {
		calls = append(makeFile(s.Root, s.Target), openIn(s.Root, s.Target, flags).to(t))
	} else {
		calls = openDirIn(s.Root, s.Target, flags, unix.RESOLVE_IN_ROOT, t)
	}
	tree := s.Given
	if tree == nil {
		from := From(s.Tree)
		tree = &from
	}
	return append(calls, moveMountOf(*tree, t))
}

func moveMount(tree, target *Result) Call { return moveMountOf(From(tree), target) }

func moveMountOf(tree Arg, target *Result) Call {
	return newCall("move_mount", unix.SYS_MOVE_MOUNT, tree, Str(""), From(target), Str(""),
		Flags(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH, "MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH"))
}

// MountAttr is what mount_setattr(2) changes on a mount (Linux 5.12).
type MountAttr struct {
	Set, Clear  uint64 // MOUNT_ATTR_*
	Propagation uint64 // MS_PRIVATE, …; 0: as it is
}

func (a MountAttr) zero() bool { return a == MountAttr{} }

func (a MountAttr) suffix() string {
	if a.Set&unix.MOUNT_ATTR_RDONLY != 0 {
		return ", read-only"
	}
	return ""
}

func attrNames(v uint64) string {
	if v == 0 {
		return "0"
	}
	return names(v, []flagName{
		{unix.MOUNT_ATTR_STRICTATIME, "MOUNT_ATTR_STRICTATIME"}, {unix.MOUNT_ATTR_NOATIME, "MOUNT_ATTR_NOATIME"},
		{unix.MOUNT_ATTR_RDONLY, "MOUNT_ATTR_RDONLY"}, {unix.MOUNT_ATTR_NOSUID, "MOUNT_ATTR_NOSUID"},
		{unix.MOUNT_ATTR_NODEV, "MOUNT_ATTR_NODEV"}, {unix.MOUNT_ATTR_NOEXEC, "MOUNT_ATTR_NOEXEC"},
		{unix.MOUNT_ATTR__ATIME, "MOUNT_ATTR__ATIME"}, {unix.MOUNT_ATTR_NODIRATIME, "MOUNT_ATTR_NODIRATIME"},
		{unix.MOUNT_ATTR_NOSYMFOLLOW, "MOUNT_ATTR_NOSYMFOLLOW"},
	})
}

func (a MountAttr) call(mount *Result, recursive bool) Call {
	flags, text := uint64(unix.AT_EMPTY_PATH), "AT_EMPTY_PATH"
	if recursive {
		flags, text = flags|unix.AT_RECURSIVE, text+"|AT_RECURSIVE"
	}
	return newCall("mount_setattr", unix.SYS_MOUNT_SETATTR, From(mount), Str(""), Flags(flags, text),
		Struct(showAttr, a.Set, a.Clear, a.Propagation, 0), Int(32))
}

func showAttr(w []uint64) string {
	return fmt.Sprintf("{set=%s, clear=%s, propagation=%s}", attrNames(w[0]), attrNames(w[1]), mountFlags(w[2]).Text())
}

// SetAttrAt changes the mount that lies on a path of the container.
type SetAttrAt struct {
	Root *Result
	Path string
	Attr MountAttr
}

func (s SetAttrAt) String() string { return "mount on " + s.Path + s.Attr.suffix() }

// Calls implements Step.
func (s SetAttrAt) Calls() []Call {
	at := &Result{Name: "at"}
	return []Call{openIn(s.Root, s.Path, 0).to(at), s.Attr.call(at, false)}
}

// SetAttr changes the mount that an open directory lies on, such as the root
// when it becomes read-only: after all that had to be created in it.
type SetAttr struct {
	Mount *Result
	Attr  MountAttr
	Why   string
}

func (s SetAttr) String() string { return s.Why }

// Calls implements Step.
func (s SetAttr) Calls() []Call { return []Call{s.Attr.call(s.Mount, false)} }
