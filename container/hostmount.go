package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/engine"
	"github.com/berth-run/berth/runtime/step"
)

// hostAttr are the attributes of what Mount shows: set-uid programs and device
// nodes of the container's making must not work on the host.
const hostAttr = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV

// shown is where Mount shows the root file system.
func (c *Container) shown() string { return c.dir + "/merged" }

// Mount shows the container's root file system on the host and returns the
// path. It stays until Unmount or Remove, over starts and ends. A running
// container's is the same files: what is written on one side is seen on the other.
func (c *Container) Mount() (string, error) {
	unlock, err := c.lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	if mounted(c.shown()) {
		return c.shown(), nil
	}
	pid := 0
	if st := c.State(); st.Status == Running || st.Status == Paused {
		pid = st.Pid
	}
	if err := c.show(pid); err != nil {
		return "", fmt.Errorf("mount container %s: %w", c.Name, err)
	}
	return c.shown(), nil
}

// show puts a mount at its place: of the container that runs, or of one that
// does not (pid 0). An upper directory in two overlays is undefined behaviour,
// so the running container's own mount is cloned.
func (c *Container) show(pid int) error {
	var tree *os.File
	var err error
	if pid != 0 {
		tree, err = cloneOf(pid, "/")
	} else {
		tree, err = c.overlay(true)
	}
	if err != nil {
		return err
	}
	defer tree.Close()
	return attach(tree, c.shown())
}

// Root opens the root file system for reading. It is mounted nowhere: with the
// last descriptor it is gone. A container that does not run is locked until
// release, because a start meanwhile would change the layers below the mount.
func (c *Container) Root() (root *os.File, release func(), err error) {
	unlock, err := c.lock()
	if err != nil {
		return nil, nil, err
	}
	var tree *os.File
	st := c.State()
	switch {
	case mounted(c.shown()):
		tree, err = clone(c.shown())
	case st.Status == Running || st.Status == Paused:
		tree, err = cloneOf(st.Pid, "/")
	default:
		tree, err = c.overlay(false)
	}
	if err == nil {
		defer tree.Close()
		var fd int
		fd, err = unix.Openat(int(tree.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		root = os.NewFile(uintptr(fd), c.Name)
	}
	if err != nil {
		unlock()
		return nil, nil, fmt.Errorf("read the root file system of container %s: %w", c.Name, err)
	}
	if st.Status == Running || st.Status == Paused {
		unlock()
		unlock = func() {}
	}
	return root, func() { root.Close(); unlock() }, nil
}

func mounted(dir string) bool {
	var a, b unix.Stat_t
	if unix.Lstat(dir, &a) != nil || unix.Lstat(dir+"/..", &b) != nil {
		return false
	}
	return a.Dev != b.Dev
}

// overlay makes a mount of the layers, attached nowhere. Without writable the
// container's own is the topmost of the lower ones. As for the container itself
// names are short, from the root of the state: what takes them takes little.
func (c *Container) overlay(writable bool) (*os.File, error) {
	dir := "containers/" + c.ID
	o := step.Overlay{Base: c.store.Root, Lower: reversed(c.Lower), Target: dir, OneByOne: engine.LayersOneByOne()}
	if writable {
		o.Upper, o.Work = dir+"/upper", dir+"/work"
	} else {
		o.Lower = append([]string{dir + "/upper"}, o.Lower...)
	}
	if o.OneByOne {
		return inMountNamespace(sameMounts, func() (*os.File, error) { return detached(o) })
	}
	return inMountNamespace(ownMounts, func() (*os.File, error) { return mountAndClone(o) })
}

// detached gives the layers one by one. A string of fsconfig(2) has 256 bytes at most.
func detached(o step.Overlay) (*os.File, error) {
	if err := unix.Chdir(o.Base); err != nil {
		return nil, &fs.PathError{Op: "chdir", Path: o.Base, Err: err}
	}
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen overlay: %w", err)
	}
	defer unix.Close(fd)
	set := func(key, val string) {
		if err != nil {
			return
		}
		if err = unix.FsconfigSetString(fd, key, val); err != nil {
			err = fmt.Errorf("overlay option %s=%s: %w", key, val, err)
		}
	}
	for _, l := range o.Lower {
		set("lowerdir+", l)
	}
	if o.Upper != "" {
		set("upperdir", step.OverlayPath(o.Upper))
		set("workdir", step.OverlayPath(o.Work))
	}
	if err != nil {
		return nil, err
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		return nil, fmt.Errorf("make overlay: %w", err)
	}
	m, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, hostAttr)
	if err != nil {
		return nil, fmt.Errorf("fsmount overlay: %w", err)
	}
	return os.NewFile(uintptr(m), "overlay"), nil
}

// mountAndClone does it before Linux 6.8: fsconfig(2) has no room for layers, so
// it takes mount(2), in a mount namespace of the thread's own, and a copy of
// that mount.
func mountAndClone(o step.Overlay) (*os.File, error) {
	if !o.Fits(os.Getpagesize()) {
		return nil, fmt.Errorf("%d layers: %w", len(o.Lower), ErrManyLayers)
	}
	if err := unix.Chdir(o.Base); err != nil {
		return nil, &fs.PathError{Op: "chdir", Path: o.Base, Err: err}
	}
	if err := unix.Mount("overlay", o.Target, "overlay", 0, o.Options()); err != nil {
		return nil, fmt.Errorf("mount overlay: %w", err)
	}
	return clone(o.Target)
}

// sameMounts: a working directory of the thread's own is all that is needed.
func sameMounts() error { return nil }

// ownMounts gives the thread a mount namespace of which the host sees nothing.
func ownMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make all mounts private: %w", err)
	}
	return nil
}

// Unmount takes it away again; not mounted is no error.
func (c *Container) Unmount() error {
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return c.unmount(unix.MNT_DETACH)
}

// unmount: without MNT_DETACH it fails while somebody uses the mount.
func (c *Container) unmount(flags int) error {
	if err := detach(c.shown(), flags); err != nil {
		return fmt.Errorf("unmount container %s: %w", c.Name, err)
	}
	return nil
}

// detach undoes attach.
func detach(dir string, flags int) error {
	if !mounted(dir) {
		return nil
	}
	if err := unix.Unmount(dir, flags|unix.UMOUNT_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "umount", Path: dir, Err: err}
	}
	os.Remove(dir)
	return nil
}

// hide takes away what Mount shows of a container that is to be started, which
// would be a second overlay on the same upper directory. It tells whether
// there was something, for the caller to show it again.
func (c *Container) hide() (bool, error) {
	if !mounted(c.shown()) {
		return false, nil
	}
	err := c.unmount(0)
	if errors.Is(err, unix.EBUSY) {
		return true, fmt.Errorf("the root file system of container %s is mounted at %s and in use there: %w", c.Name, c.shown(), err)
	}
	return true, err
}

// cloneOf clones a mount of a running container: open_tree(2) clones only what
// is in the caller's own namespace.
func cloneOf(pid int, path string) (*os.File, error) {
	return inMountNamespace(func() error {
		ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(ns)
		if err := unix.Setns(ns, unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("join the mount namespace of process %d: %w", pid, err)
		}
		return nil
	}, func() (*os.File, error) { return clone(path) })
}

// inMountNamespace lets a thread enter another mount namespace and take a tree
// there. The thread ends instead of being used again.
func inMountNamespace(enter func() error, take func() (*os.File, error)) (*os.File, error) {
	type result struct {
		tree *os.File
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // not unlocked
		tree, err := thereAndBack(enter, take)
		done <- result{tree, err}
	}()
	r := <-done
	return r.tree, r.err
}

func thereAndBack(enter func() error, take func() (*os.File, error)) (tree *os.File, err error) {
	host, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(host)
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // setns wants a thread with a root of its own
		return nil, fmt.Errorf("unshare: %w", err)
	}
	if err = enter(); err == nil {
		tree, err = take()
	}
	// the thread that ends may be the process's first, and what /proc/self shows
	if back := unix.Setns(host, unix.CLONE_NEWNS); back != nil {
		err = errors.Join(err, fmt.Errorf("come back to the host's mount namespace: %w", back))
	}
	return tree, err
}

// clone copies one mount, attached nowhere. A container may have put links on
// the way, and those of its /proc lead anywhere: none is followed.
func clone(path string) (*os.File, error) {
	at, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return nil, &fs.PathError{Op: "openat2", Path: path, Err: err}
	}
	defer unix.Close(at)
	fd, err := unix.OpenTree(at, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return nil, fmt.Errorf("clone the mount at %s: %w", path, err)
	}
	tree := os.NewFile(uintptr(fd), path)
	attr := unix.MountAttr{Attr_set: hostAttr}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil { // Linux 5.12
		tree.Close()
		return nil, fmt.Errorf("set the attributes of the mount at %s: %w", path, err)
	}
	return tree, nil
}

// attach puts a mount that is attached nowhere at dir, which it makes.
func attach(tree *os.File, dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := unix.MoveMount(int(tree.Fd()), "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		os.Remove(dir)
		return &fs.PathError{Op: "move_mount", Path: dir, Err: err}
	}
	return nil
}
