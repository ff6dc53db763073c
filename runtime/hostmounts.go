package runtime

import (
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/engine"
)

// A container without a mount namespace has its root mounted onto itself in the
// host's, with all of its mounts on top of that. They do not end with it.

// noteRoot keeps what is mounted at the root before that: whoever finds
// another mount there later has found the container's.
func (m *maker) noteRoot() {
	if _, ok := engine.Namespace(m.spec.Linux, specs.MountNamespace); !ok {
		m.state.RootMount = mountID(m.state.Rootfs)
	}
}

// mountID is that of the mount in which a path lies, 0 if it has none
// (statx(2) STATX_MNT_ID, Linux 5.8).
func mountID(path string) uint64 {
	var st unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID, &st) != nil {
		return 0
	}
	return st.Mnt_id
}

// unmountRoot undoes what the container mounted on the host. A hook, or whoever
// owns the bundle, may have done so before; and in another mount namespace
// there was nothing.
func (c *Container) unmountRoot() error {
	before, path := c.state.RootMount, c.state.Rootfs
	if c.state.Boot != engine.BootID() { // nor after the host began anew, with other numbers
		return nil
	}
	if now := mountID(path); before == 0 || now == 0 || now == before {
		return nil
	}
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && err != unix.EINVAL { // EINVAL: no mount
		return &os.PathError{Op: "unmount the root", Path: path, Err: err}
	}
	return nil
}
