package image

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Whiteouts: image-spec, layer.md, "Whiteouts". They act on lower layers only,
// wherever they stand in their own. No name that starts so appears in a root.
const (
	whPrefix = ".wh."
	whOpaque = ".wh..wh..opq"
)

// marker handles an entry whose name starts with ".wh.".
func (u *unpacker) marker(parents []string, base string) error {
	if base == whOpaque {
		return u.hide(parents)
	}
	name := strings.TrimPrefix(base, whPrefix)
	if strings.HasPrefix(base, ".wh..wh.") || name == "" || name == "." || name == ".." {
		return nil // AUFS's own files, and names that name nothing
	}
	return u.whiteout(parents, name, false)
}

// whiteout hides name of the layers below. It is not made where there is
// nothing to hide: overlayfs lists whiteouts of a directory that only one layer
// has. replace: it also takes the place of what this layer has there.
func (u *unpacker) whiteout(parents []string, name string, replace bool) error {
	dir, err := u.resolve(parents)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return nil
	}
	if err != nil {
		return err
	}
	here := false
	path := joinPath(dir, name)
	if st, _, err := (trees{u.own()}).look(path, u.xattr); err == nil {
		if !replace && isDir(&st) { // made in this layer, before its whiteout: keep, but hide what is below
			return u.hideDir(append(dir, name))
		}
		here = true
	} else if err != unix.ENOENT {
		return err
	}
	if here && !replace {
		return nil
	}
	hidden, err := u.nothingBelow(dir, path)
	if err != nil || hidden && !here {
		return err
	}
	if err := u.enter(dir); err != nil {
		return err
	}
	at := u.top()
	if here {
		if err := u.clear(at, name); err != nil {
			return err
		}
	}
	if hidden || at.bare {
		return nil
	}
	if err := at.touch(); err != nil {
		return err
	}
	u.whiteouts = true
	err = unix.Mknodat(at.fd, name, unix.S_IFCHR, 0) // needs no privilege from Linux 5.8
	if err == unix.EEXIST {
		return nil // it has been whited out before
	}
	return err
}

// nothingBelow tells that no lower layer shows anything at path.
func (u *unpacker) nothingBelow(dir []string, path string) (bool, error) {
	if u.stack[0].bare {
		return true, nil
	}
	if u.opaque && u.own().hides(path, u.xattr) {
		return true, nil
	}
	ts, err := u.below()
	if err != nil {
		return false, err
	}
	_, _, err = ts.look(path, u.xattr)
	if err == unix.ENOENT {
		return true, nil
	}
	return false, err
}

// hide makes a directory opaque: its children of lower layers disappear.
func (u *unpacker) hide(parents []string) error {
	dir, err := u.resolve(parents)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return nil
	}
	if err != nil {
		return err
	}
	return u.hideDir(dir)
}

func (u *unpacker) hideDir(dir []string) error {
	if u.stack[0].bare {
		return nil
	}
	if len(dir) == 0 {
		// overlayfs looks for no opaque mark on the root of a layer
		// (ovl_get_root), so each name below gets its whiteout.
		return u.hideRoot()
	}
	if err := u.enter(dir); err != nil {
		return err
	}
	at := u.top()
	if at.bare {
		return nil
	}
	// Setting an xattr changes no mtime, only ctime.
	if err := u.setOpaque(at.fd); err != nil {
		return err
	}
	at.bare = true
	if u.whiteouts {
		if err := at.touch(); err != nil {
			return err
		}
		return dropWhiteouts(at.fd)
	}
	return nil
}

// hideRoot hides all that the lower layers have.
func (u *unpacker) hideRoot() error {
	ts, err := u.below()
	if err != nil {
		return err
	}
	for _, t := range ts {
		names, err := readNames(t.fd)
		if err != nil {
			return err
		}
		for _, n := range names {
			if err := u.whiteout(nil, n, false); err != nil {
				return err
			}
		}
	}
	return nil
}

func readNames(fd int) ([]string, error) {
	own, err := unix.Openat(fd, ".", dirFlags, 0)
	if err != nil {
		return nil, err
	}
	d := os.NewFile(uintptr(own), "directory of a layer")
	defer d.Close()
	return d.Readdirnames(-1)
}

// dropWhiteouts removes the whiteouts from a directory that has become opaque,
// and from all below it: there is nothing left to hide, and overlayfs would list them.
func dropWhiteouts(fd int) error {
	names, err := readNames(fd)
	if err != nil {
		return err
	}
	for _, n := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, n, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		switch {
		case isWhiteout(&st):
			err = unix.Unlinkat(fd, n, 0)
		case isDir(&st):
			err = dropWhiteoutsIn(fd, n, &st)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func dropWhiteoutsIn(fd int, name string, st *unix.Stat_t) error {
	sub, err := unix.Openat(fd, name, dirFlags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(sub)
	if err := dropWhiteouts(sub); err != nil {
		return err
	}
	return futimens(sub, [2]unix.Timespec{st.Atim, st.Mtim})
}
