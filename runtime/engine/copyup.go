package engine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// copyUp fills a tmpfs of a container with what its root has at the same path
// (mount option tmpcopyup). The process waits meanwhile, its root filled and not
// yet entered: through /proc/PID/root its mounts are seen where the caller sees the
// root as it was before. What is mounted within the tmpfs is left alone.
func copyUp(pid int, root, dir string) error {
	from, err := openBelow(root, dir)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := openBelow(fmt.Sprintf("/proc/%d/root%s", pid, root), dir)
	if err != nil {
		return err
	}
	defer to.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(to.Fd()), &st); err != nil {
		return err
	}
	return copyTree(from, to, st.Dev)
}

func openBelow(root, dir string) (*os.File, error) {
	top, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(top)
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT}
	fd, err := unix.Openat2(top, "."+path.Clean("/"+dir), &how)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), dir), nil
}

func copyTree(from, to *os.File, dev uint64) error {
	names, err := from.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(int(from.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if err := copyEntry(from, to, name, &st, dev); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func copyEntry(from, to *os.File, name string, st *unix.Stat_t, dev uint64) (err error) {
	dst := int(to.Fd())
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return copyDir(from, to, name, st, dev)
	case unix.S_IFREG:
		err = copyFile(from, to, name)
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, lerr := unix.Readlinkat(int(from.Fd()), name, buf)
		if lerr != nil {
			return lerr
		}
		err = unix.Symlinkat(string(buf[:n]), dst, name)
	default:
		err = unix.Mknodat(dst, name, st.Mode, int(st.Rdev))
	}
	if err == unix.EEXIST { // made to mount something on it
		return nil
	}
	return errors.Join(err, sameOwner(dst, name, st))
}

func copyDir(from, to *os.File, name string, st *unix.Stat_t, dev uint64) error {
	err := unix.Mkdirat(int(to.Fd()), name, 0o700)
	if err != nil && err != unix.EEXIST {
		return err
	}
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	src, err := unix.Openat(int(from.Fd()), name, flags, 0)
	if err != nil {
		return err
	}
	s := os.NewFile(uintptr(src), name)
	defer s.Close()
	dst, err := unix.Openat(int(to.Fd()), name, flags, 0)
	if err != nil {
		return err
	}
	d := os.NewFile(uintptr(dst), name)
	defer d.Close()
	var its unix.Stat_t
	if err := unix.Fstat(dst, &its); err != nil || its.Dev != dev {
		return err // something is mounted there
	}
	if err := copyTree(s, d, dev); err != nil {
		return err
	}
	return sameOwner(int(to.Fd()), name, st)
}

func copyFile(from, to *os.File, name string) error {
	src, err := unix.Openat(int(from.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	s := os.NewFile(uintptr(src), name)
	defer s.Close()
	dst, err := unix.Openat(int(to.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	d := os.NewFile(uintptr(dst), name)
	_, err = io.Copy(d, s)
	return errors.Join(err, d.Close())
}

// sameOwner gives owner, mode and times; chown first, for it clears set-uid bits.
func sameOwner(dir int, name string, st *unix.Stat_t) error {
	if err := unix.Fchownat(dir, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(dir, name, st.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(dir, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}
