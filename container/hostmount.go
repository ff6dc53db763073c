package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// hostAttr are the attributes of what Mount shows: set-uid programs and device
// nodes of the container's making must not work on the host.
const hostAttr = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV

// Mount shows the container's root file system on the host and returns the
// path. It stays until Unmount or Remove. A running container's
// is the same files: what is written on one side is seen on the other.
func (c *Container) Mount() (string, error) {
	unlock, err := c.lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	at := c.dir + "/merged"
	if mounted(at) {
		return at, nil
	}
	if st := c.State(); st.Status == Running || st.Status == Paused {
		// an upper directory in two overlays is undefined behaviour: clone the container's own mount
		err = c.mountRunning(st.Pid, at)
	} else {
		err = c.mountOverlay(at)
	}
	if err != nil {
		os.Remove(at)
		return "", fmt.Errorf("mount container %s: %w", c.Name, err)
	}
	return at, nil
}

func mounted(dir string) bool {
	var a, b unix.Stat_t
	if unix.Lstat(dir, &a) != nil || unix.Lstat(dir+"/..", &b) != nil {
		return false
	}
	return a.Dev != b.Dev
}

func (c *Container) mountOverlay(at string) error {
	if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	esc := strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`)
	lower := reversed(c.lowerDirs())
	for i := range lower {
		lower[i] = esc.Replace(lower[i])
	}
	// one string of options has a page at most (mount(2)): many layers need
	// the other interface, which takes them one by one (fsconfig(2), Linux 6.5)
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("fsopen overlay: %w", err)
	}
	defer unix.Close(fd)
	set := func(key, val string) error {
		if err := unix.FsconfigSetString(fd, key, val); err != nil {
			return fmt.Errorf("overlay option %s=%s: %w", key, val, err)
		}
		return nil
	}
	for i, l := range reversed(c.lowerDirs()) {
		if err = set("lowerdir+", l); err != nil && i == 0 {
			err = set("lowerdir", strings.Join(lower, ":"))
			break
		}
		if err != nil {
			return err
		}
	}
	if err := errors.Join(err, set("upperdir", esc.Replace(c.dir+"/upper")), set("workdir", esc.Replace(c.dir+"/work"))); err != nil {
		return err
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		return fmt.Errorf("make overlay: %w", err)
	}
	m, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, hostAttr)
	if err != nil {
		return fmt.Errorf("fsmount overlay: %w", err)
	}
	defer unix.Close(m)
	return unix.MoveMount(m, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// Unmount takes it away again; not mounted is no error.
func (c *Container) Unmount() error {
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return c.unmount()
}

func (c *Container) unmount() error {
	at := c.dir + "/merged"
	if !mounted(at) {
		return nil
	}
	if err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("unmount container %s: %w", c.Name, err)
	}
	os.Remove(at)
	return nil
}

// mountRunning clones the root mount of a running container into the host's
// mount namespace. open_tree(2) clones only what is in the caller's own
// namespace, so a thread goes there, and ends instead of being used again.
func (c *Container) mountRunning(pid int, at string) error {
	if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // not unlocked
		done <- cloneRoot(pid, at)
	}()
	return <-done
}

func cloneRoot(pid int, at string) error {
	host, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(host)
	ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(ns)
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // setns wants a thread with a root of its own
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Setns(ns, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("join the mount namespace of process %d: %w", pid, err)
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("clone the root mount: %w", err)
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: hostAttr}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil { // Linux 5.12
		return fmt.Errorf("set the attributes of the root mount: %w", err)
	}
	if err := unix.Setns(host, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("come back to the host's mount namespace: %w", err)
	}
	return unix.MoveMount(tree, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH)
}
