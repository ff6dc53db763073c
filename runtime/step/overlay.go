package step

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Overlay mounts the image's layers and the container's own on top, at Target,
// and opens it as Root. All paths are relative to Base: the options of a mount
// must fit in one page (mount(2)), and short names make room for many layers.
type Overlay struct {
	Base        string
	Lower       []string // uppermost first
	Upper, Work string   // empty: read-only
	UserXattr   bool     // whiteouts of an unprivileged user (Linux 5.11)
	Volatile    bool     // never synced: an upper that goes with its container (Linux 5.10)
	Target      string
	Root        *Result

	// OneByOne gives each layer in a call of its own: for more than fit in a page
	// (Documentation/filesystems/overlayfs.rst, "lowerdir+", Linux 6.8). That takes
	// 2 or 3 microseconds for each, so it is not for all.
	OneByOne bool
}

func (s Overlay) String() string {
	return fmt.Sprintf("the root: %d layers under one of its own", len(s.Lower))
}

// overlayEscape is for paths in the options of overlayfs, which splits them at
// commas and lowerdir at colons (fs/overlayfs/params.c).
var overlayEscape = strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`)

// OverlayPath is a path as the option upperdir or workdir takes it.
func OverlayPath(path string) string { return overlayEscape.Replace(path) }

// LowerDirs is the value of the option lowerdir, uppermost first.
func LowerDirs(paths []string) string {
	low := make([]string, len(paths))
	for i, p := range paths {
		low[i] = OverlayPath(p)
	}
	return strings.Join(low, ":")
}

// Fits tells whether the options fit in a page. The kernel takes no more, and
// cuts off the rest without a word (copy_mount_options in fs/namespace.c).
func (s Overlay) Fits(page int) bool { return len(s.Options()) < page }

// Options is the data of the mount call.
func (s Overlay) Options() string {
	o := "lowerdir=" + LowerDirs(s.Lower)
	if s.Upper != "" {
		o += ",upperdir=" + OverlayPath(s.Upper) + ",workdir=" + OverlayPath(s.Work)
	}
	if s.UserXattr {
		o += ",userxattr"
	}
	if s.Volatile {
		o += ",volatile"
	}
	return o
}

// Calls implements Step.
func (s Overlay) Calls() []Call {
	if s.OneByOne {
		return s.oneByOne()
	}
	return []Call{
		newCall("chdir", unix.SYS_CHDIR, Str(s.Base)),
		newCall("mount", unix.SYS_MOUNT, Str("overlay"), Str(s.Target), Str("overlay"), Int(0), Str(s.Options())),
		openDir(s.Target).to(s.Root),
	}
}

// oneByOne goes by fsconfig(2). A layer is added below those before it, and its
// path is taken as it is; upperdir and workdir are unescaped as ever
// (ovl_parse_layer in fs/overlayfs/params.c). A string has 256 bytes at most
// (fsconfig(2)): a second reason for paths relative to Base.
func (s Overlay) oneByOne() []Call {
	fs := &Result{Name: "fs"}
	set := func(key, value string) Call {
		return newCall("fsconfig", unix.SYS_FSCONFIG, From(fs), Flags(unix.FSCONFIG_SET_STRING, "FSCONFIG_SET_STRING"), Str(key), Str(value), Int(0))
	}
	calls := []Call{
		newCall("chdir", unix.SYS_CHDIR, Str(s.Base)),
		newCall("fsopen", unix.SYS_FSOPEN, Str("overlay"), Flags(unix.FSOPEN_CLOEXEC, "FSOPEN_CLOEXEC")).to(fs),
		set("source", "overlay"),
	}
	for _, l := range s.Lower {
		calls = append(calls, set("lowerdir+", l))
	}
	if s.Upper != "" {
		calls = append(calls, set("upperdir", OverlayPath(s.Upper)), set("workdir", OverlayPath(s.Work)))
	}
	for _, flag := range []struct {
		set  bool
		name string
	}{{s.UserXattr, "userxattr"}, {s.Volatile, "volatile"}} {
		if flag.set {
			calls = append(calls, newCall("fsconfig", unix.SYS_FSCONFIG, From(fs), Flags(unix.FSCONFIG_SET_FLAG, "FSCONFIG_SET_FLAG"), Str(flag.name), Null, Int(0)))
		}
	}
	return append(calls,
		newCall("fsconfig", unix.SYS_FSCONFIG, From(fs), Flags(unix.FSCONFIG_CMD_CREATE, "FSCONFIG_CMD_CREATE"), Null, Null, Int(0)),
		newCall("fsmount", unix.SYS_FSMOUNT, From(fs), Flags(unix.FSMOUNT_CLOEXEC, "FSMOUNT_CLOEXEC"), Int(0)).to(s.Root),
		newCall("move_mount", unix.SYS_MOVE_MOUNT, From(s.Root), Str(""), Cwd, Str(s.Target), Flags(unix.MOVE_MOUNT_F_EMPTY_PATH, "MOVE_MOUNT_F_EMPTY_PATH")),
		newCall("close", unix.SYS_CLOSE, From(fs)))
}
