package container

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/image"
)

// copyUp fills an empty volume with what the image has at path: owners, modes,
// times, xattrs, links as they are there. Nothing happens if the image has no
// directory there or the volume has content. The flock makes two containers
// that start with the same new volume wait for each other.
//
// Killed at any moment it leaves no half-filled volume: the copy is made beside
// the volume as .fill, is called .filled when it is whole, and then moved into
// the volume name by name. Whoever comes next starts the first anew, and goes on
// with the second.
func copyUp(root *image.View, path, data string) error {
	l, err := lockDir(data, unix.LOCK_EX)
	if err == nil {
		defer l.Close()
		err = fillVolume(root, path, l, data[:strings.LastIndexByte(data, '/')])
	}
	if err != nil {
		return fmt.Errorf("copy %s of the image into a volume: %w", path, err)
	}
	return nil
}

func fillVolume(root *image.View, path string, data *os.File, beside string) error {
	part, whole := beside+"/.fill", beside+"/.filled"
	if err := moveIn(whole, data); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if names, err := data.Readdirnames(1); len(names) > 0 || err != nil && err != io.EOF {
		return err
	}
	e, err := root.Walk(path)
	if err != nil || !e.IsDir() {
		return nil // the path is not in the image: the volume stays empty
	}
	if err := errors.Join(os.RemoveAll(part), os.Mkdir(part, 0o700)); err != nil {
		return err
	}
	if err = copyTo(part, e); err == nil {
		err = os.Rename(part, whole)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(part))
	}
	return moveIn(whole, data)
}

func copyTo(dir string, e *image.Entry) error {
	top, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer top.Close()
	c := copier{links: map[[2]uint64]string{}, top: int(top.Fd())}
	return c.dir(e, c.top, "")
}

// moveIn moves all from the directory whole into data, which gets its
// attributes, and removes it. What data has of that name stays.
func moveIn(whole string, data *os.File) error {
	from, err := os.Open(whole)
	if err != nil {
		return err
	}
	defer from.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return err
	}
	names, err := from.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		err := unix.Renameat2(int(from.Fd()), n, int(data.Fd()), n, unix.RENAME_NOREPLACE)
		if err != nil && err != unix.EEXIST {
			return &fs.PathError{Op: "move into the volume", Path: n, Err: err}
		}
	}
	if err := attributes(from, int(data.Fd()), &st); err != nil {
		return err
	}
	return os.RemoveAll(whole)
}

// copier copies a tree of an image below top. links maps the inode of a file with
// several names to the first of them, relative to top.
type copier struct {
	links map[[2]uint64]string
	top   int
}

func (c *copier) dir(from *image.Entry, dst int, rel string) error {
	names, err := from.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		e, err := from.Look(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a whiteout
		}
		if err == nil {
			err = c.entry(e, name, dst, rel+name)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", rel+name, err)
		}
	}
	src, err := from.Open()
	if err != nil {
		return err
	}
	defer src.Close()
	// last, because writing into the directory changed its times
	return attributes(src, dst, &from.Stat_t)
}

func (c *copier) entry(e *image.Entry, name string, dst int, rel string) error {
	if e.IsDir() {
		if err := unix.Mkdirat(dst, name, 0o700); err != nil {
			return err
		}
		fd, err := unix.Openat(dst, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return c.dir(e, fd, rel+"/")
	}
	if e.Nlink > 1 {
		key := [2]uint64{uint64(e.Dev), e.Ino}
		if first, ok := c.links[key]; ok {
			return unix.Linkat(c.top, first, dst, name, 0)
		}
		c.links[key] = rel
	}
	switch e.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return copyFile(e, name, dst)
	case unix.S_IFLNK:
		to, err := e.Readlink()
		if err != nil {
			return err
		}
		if err := unix.Symlinkat(to, dst, name); err != nil {
			return err
		}
	default: // device, fifo, socket
		if err := unix.Mknodat(dst, name, e.Mode, int(e.Rdev)); err != nil {
			return err
		}
		if err := unix.Fchmodat(dst, name, e.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	if err := unix.Fchownat(dst, name, int(e.Uid), int(e.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.UtimesNanoAt(dst, name, []unix.Timespec{e.Atim, e.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

func copyFile(e *image.Entry, name string, dst int) error {
	src, err := e.Open()
	if err != nil {
		return err
	}
	defer src.Close()
	fd, err := unix.Openat(dst, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(fd), name)
	_, err = io.Copy(out, src) // copy_file_range(2) between two files
	if err == nil {
		err = attributes(src, fd, &e.Stat_t)
	}
	return errors.Join(err, out.Close())
}

// attributes sets owner, then mode (chown clears set-uid), xattrs (chown clears
// security.capability), times last.
func attributes(src *os.File, dst int, st *unix.Stat_t) error {
	if err := unix.Fchown(dst, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(dst, st.Mode&0o7777); err != nil {
		return err
	}
	if err := copyXattrs(int(src.Fd()), dst); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(dst), []unix.Timespec{st.Atim, st.Mtim}, 0)
}

func copyXattrs(src, dst int) error {
	n, err := unix.Flistxattr(src, nil)
	if n <= 0 || err != nil {
		return nil // none, or a file system without
	}
	list := make([]byte, n)
	if n, err = unix.Flistxattr(src, list); err != nil {
		return err
	}
	for name := range bytes.SplitSeq(bytes.TrimRight(list[:n], "\x00"), []byte{0}) {
		key := string(name)
		if strings.HasPrefix(key, "trusted.overlay.") || strings.HasPrefix(key, "user.overlay.") || key == "security.selinux" {
			continue
		}
		size, err := unix.Fgetxattr(src, key, nil)
		if err != nil {
			return err
		}
		value := make([]byte, size)
		if size, err = unix.Fgetxattr(src, key, value); err != nil {
			return err
		}
		if err := unix.Fsetxattr(dst, key, value[:size], 0); err != nil && err != unix.ENOTSUP {
			return fmt.Errorf("set %s: %w", key, err)
		}
	}
	return nil
}
