package image

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A tree is one layer's directory.
type tree struct {
	fd     int
	opaque bool // some directory in it hides those of the layers below
}

// trees are layers as overlayfs stacks them, topmost first.
type trees []tree

// resolution of a path that has been resolved before: a symbolic link on the
// way means that the path is hidden, and is never followed. openat2(2), Linux 5.6.
const noLinks = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS

// look finds what overlayfs would show at path, which holds no links, and in
// which tree it lies. unix.ENOENT when there is nothing.
// Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
func (ts trees) look(path string, xattr string) (st unix.Stat_t, in tree, err error) {
	for _, t := range ts {
		fd, err := t.open(path)
		switch err {
		case nil:
			err = unix.Fstat(fd, &st)
			unix.Close(fd)
			if err == nil && isWhiteout(&st) {
				err = unix.ENOENT
			}
			return st, t, err
		case unix.ENOENT:
			if t.opaque && t.hides(path, xattr) {
				return st, t, unix.ENOENT
			}
		case unix.ENOTDIR, unix.ELOOP: // a file, a whiteout or a link stands where the path goes on
			return st, t, unix.ENOENT
		default:
			return st, t, fmt.Errorf("look up %q in the layers below: %w", brief(path), err)
		}
	}
	return st, tree{}, unix.ENOENT
}

// hides tells whether a parent of path is opaque in this tree.
func (t tree) hides(path, xattr string) bool {
	for i := strings.LastIndexByte(path, '/'); i > 0; i = strings.LastIndexByte(path[:i], '/') {
		fd, err := t.openat(path[:i], unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			continue
		}
		opaque := isOpaque(fd, xattr)
		unix.Close(fd)
		if opaque {
			return true
		}
	}
	return false
}

// open gives an O_PATH descriptor of what is at path in this tree alone.
func (t tree) open(path string) (int, error) {
	return t.openat(path, unix.O_PATH|unix.O_NOFOLLOW)
}

func (t tree) openat(path string, flags uint64) (int, error) {
	if path == "" {
		path = "."
	}
	return unix.Openat2(t.fd, path, &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: noLinks})
}

// names lists this tree's part of the directory at path. last: it hides those
// of the trees below.
func (t tree) names(path, xattr string) (list []string, last bool, err error) {
	fd, err := t.openat(path, unix.O_RDONLY|unix.O_DIRECTORY)
	switch err {
	case nil:
	case unix.ENOENT:
		return nil, t.opaque && t.hides(path, xattr), nil
	case unix.ENOTDIR, unix.ELOOP:
		return nil, true, nil
	default:
		return nil, false, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	list, err = f.Readdirnames(-1)
	return list, t.opaque && (isOpaque(fd, xattr) || t.hides(path, xattr)), err
}

// readlink returns the target of the link that look found.
func (t tree) readlink(path string) (string, error) {
	fd, err := t.open(path)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return readlinkat(fd, "") // of the descriptor itself: readlinkat(2), Linux 2.6.39
}

func readlinkat(fd int, name string) (string, error) {
	b := make([]byte, maxPath)
	n, err := unix.Readlinkat(fd, name, b)
	return string(b[:max(n, 0)]), err
}

func isDir(st *unix.Stat_t) bool  { return st.Mode&unix.S_IFMT == unix.S_IFDIR }
func isLink(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFLNK }
func isReg(st *unix.Stat_t) bool  { return st.Mode&unix.S_IFMT == unix.S_IFREG }

func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// isOpaque asks an open directory; xattr is the prefix that this store uses.
func isOpaque(fd int, xattr string) bool {
	var b [1]byte
	n, err := unix.Fgetxattr(fd, xattr+"opaque", b[:])
	return err == nil && n == 1 && b[0] == 'y'
}
