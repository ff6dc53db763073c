package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rights is what this process may do with files; see findRights.
type rights struct {
	xattr  string // prefix of overlayfs's own xattrs
	owners bool   // chown works
	nodes  bool   // mknod works
}

// findRights tells who we are, which does not change. In a user namespace
// trusted.* xattrs and device nodes are out of reach: overlayfs is mounted with
// userxattr there (Documentation/filesystems/overlayfs.rst; Linux 5.11).
var findRights = sync.OnceValues(func() (*rights, error) {
	if os.Geteuid() != 0 {
		return &rights{xattr: "user.overlay."}, nil
	}
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return nil, err
	}
	f := strings.Fields(string(b))
	if len(f) == 3 && f[0] == "0" && f[1] == "0" && f[2] == "4294967295" {
		return &rights{xattr: "trusted.overlay.", owners: true, nodes: true}, nil
	}
	return &rights{xattr: "user.overlay.", owners: true}, nil
})

// UserXattr tells that overlayfs has to be mounted with the option userxattr
// here: the layers were unpacked so.
func UserXattr() bool {
	r, err := findRights()
	return err == nil && r.xattr == "user.overlay."
}

// meta gives an open file or directory its owner, mode, xattrs and times. The
// order matters: chown clears setuid bits and security.capability, an ACL
// changes the group bits, and everything changes times.
func (u *unpacker) meta(fd int, h *tar.Header) error {
	if err := u.chown(fd, h.Uid, h.Gid); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, uint32(h.Mode&0o7777)); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	for k, v := range h.PAXRecords {
		if k, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok && keepXattr(k) {
			if err := setXattr(fd, k, []byte(v)); err != nil {
				return fmt.Errorf("set xattr %q of %d bytes: %w", brief(k), len(v), err)
			}
		}
	}
	return futimens(fd, times(h))
}

// keepXattr: what an image may set. trusted.* and the other security.* belong
// to this host's kernel, and those of overlayfs would hide or bring in files.
func keepXattr(name string) bool {
	switch name {
	case "security.capability", "system.posix_acl_access", "system.posix_acl_default":
		return true
	}
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
}

// setXattr ignores a file system that has none of this kind, as docker does.
func setXattr(fd int, name string, v []byte) error {
	err := unix.Fsetxattr(fd, name, v, 0)
	if err == unix.EOPNOTSUPP || err == unix.EPERM && os.Geteuid() != 0 {
		return nil
	}
	return err
}

func (u *unpacker) chown(fd, uid, gid int) error {
	if err := checkIDs(uid, gid); err != nil || !u.owners {
		return err
	}
	return unmapped(unix.Fchown(fd, uid, gid), uid, gid)
}

// unmapped explains chown's EINVAL: user_namespaces(7).
func unmapped(err error, uid, gid int) error {
	if err == unix.EINVAL {
		return fmt.Errorf("owner %d:%d is not mapped into this user namespace: %w", uid, gid, err)
	}
	return err
}

// checkIDs: 2^32-1 means "leave it" to chown(2).
func checkIDs(uid, gid int) error {
	if uid < 0 || gid < 0 || uid >= 1<<32-1 || gid >= 1<<32-1 {
		return fmt.Errorf("owner %d:%d is out of range", uid, gid)
	}
	return nil
}

// metaAt is meta for what is better not opened: links, fifos, devices. Nobody
// else knows the directory, so the name is what was made a moment ago.
func (u *unpacker) metaAt(dir int, name string, h *tar.Header) error {
	if err := checkIDs(h.Uid, h.Gid); err != nil {
		return err
	}
	if u.owners {
		if err := unix.Fchownat(dir, name, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return unmapped(err, h.Uid, h.Gid)
		}
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := unix.Fchmodat(dir, name, uint32(h.Mode&0o7777), 0); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	ts := times(h)
	return unix.UtimesNanoAt(dir, name, ts[:], unix.AT_SYMLINK_NOFOLLOW)
}

func times(h *tar.Header) [2]unix.Timespec {
	a := h.AccessTime
	if a.IsZero() {
		a = h.ModTime
	}
	return [2]unix.Timespec{timespec(a), timespec(h.ModTime)}
}

// timespec keeps the nanoseconds positive, also before 1970.
func timespec(t time.Time) unix.Timespec {
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

// futimens(3): utimensat(2) with a null path, which x/sys does not offer.
func futimens(fd int, ts [2]unix.Timespec) error {
	_, _, e := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if e != 0 {
		return fmt.Errorf("set times: %w", e)
	}
	return nil
}

// copyMeta gives the open directory or file to the owner, mode, xattrs and
// times of from, as overlayfs's copy-up does.
func copyMeta(from, to int) error {
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(to, st.Mode&0o7777); err != nil {
		return err
	}
	size, err := unix.Flistxattr(from, nil)
	if err != nil && err != unix.EOPNOTSUPP {
		return err
	}
	names := make([]byte, max(size, 0))
	if size > 0 {
		if size, err = unix.Flistxattr(from, names); err != nil {
			return err
		}
	}
	for _, n := range strings.Split(strings.TrimRight(string(names[:max(size, 0)]), "\x00"), "\x00") {
		if !keepXattr(n) {
			continue
		}
		v := make([]byte, 64<<10) // XATTR_SIZE_MAX
		k, err := unix.Fgetxattr(from, n, v)
		if err == nil {
			err = setXattr(to, n, v[:k])
		}
		if err != nil {
			return fmt.Errorf("copy xattr %s: %w", n, err)
		}
	}
	return futimens(to, [2]unix.Timespec{st.Atim, st.Mtim})
}

// link makes a hard link. The target is a path of the image, so it may lie in
// a lower layer; then it is copied up first, as writing to it would.
func (u *unpacker) link(parents []string, base string, h *tar.Header) error {
	name, err := inside(h.Linkname)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", brief(h.Linkname), err)
	}
	if name == "" {
		return fmt.Errorf("hard link to %q: %w", brief(h.Linkname), unix.EISDIR)
	}
	if err := u.linkTo(parents, base, strings.Split(name, "/")); err != nil {
		return fmt.Errorf("hard link to %q: %w", brief(h.Linkname), err)
	}
	return nil
}

func (u *unpacker) linkTo(parents []string, base string, target []string) error {
	dir, err := u.resolve(target[:len(target)-1])
	if err != nil {
		return err
	}
	last := target[len(target)-1]
	path := joinPath(dir, last)
	st, in, err := u.look(path)
	if err != nil {
		return err
	}
	if isDir(&st) {
		return unix.EISDIR
	}
	if in.fd != u.stack[0].fd {
		if err := u.copyUp(dir, last, in, path, &st); err != nil {
			return fmt.Errorf("copy up: %w", err)
		}
	}
	from, err := u.own().openat(joinPath(dir, "."), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	if err := u.enter(parents); err != nil {
		return err
	}
	at := u.top()
	if at.join(base) == path {
		return nil // to itself
	}
	if err := at.touch(); err != nil {
		return err
	}
	err = unix.Linkat(from, last, at.fd, base, 0) // flags 0: a link to a symbolic link links that
	if err == unix.EEXIST {
		if err = u.clear(at, base); err == nil {
			err = unix.Linkat(from, last, at.fd, base, 0)
		}
	}
	return err
}

// copyUp makes the lower file at path in this layer too.
func (u *unpacker) copyUp(dir []string, last string, in tree, path string, st *unix.Stat_t) error {
	if err := u.enter(dir); err != nil {
		return err
	}
	at := u.top()
	if err := at.touch(); err != nil {
		return err
	}
	h := &tar.Header{Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		AccessTime: time.Unix(st.Atim.Unix()), ModTime: time.Unix(st.Mtim.Unix())}
	switch {
	case isReg(st):
		return u.copyFile(at, last, in, path)
	case isLink(st):
		to, err := in.readlink(path)
		if err != nil {
			return err
		}
		h.Typeflag = tar.TypeSymlink
		return u.create(at, last, h, func() error { return unix.Symlinkat(to, at.fd, last) })
	}
	return u.create(at, last, h, func() error { return unix.Mknodat(at.fd, last, st.Mode, int(st.Rdev)) })
}

func (u *unpacker) copyFile(at *node, last string, in tree, path string) error {
	fd, err := in.openat(path, unix.O_RDONLY|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	from := os.NewFile(uintptr(fd), path)
	defer from.Close()
	fd, err = unix.Openat(at.fd, last, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	to := os.NewFile(uintptr(fd), path)
	if _, err = to.ReadFrom(from); err == nil { // copy_file_range(2)
		err = copyMeta(int(from.Fd()), fd)
	}
	return errors.Join(err, to.Close())
}

// own is this layer as a tree.
func (u *unpacker) own() tree { return tree{u.stack[0].fd, u.opaque} }

// look finds what the image has at path, with this layer on top.
func (u *unpacker) look(path string) (unix.Stat_t, tree, error) {
	own := trees{u.own()}
	st, in, err := own.look(path, u.xattr)
	if err != unix.ENOENT || u.stack[0].bare {
		return st, in, err
	}
	ts, err := u.below()
	if err != nil {
		return st, in, err
	}
	return append(own, ts...).look(path, u.xattr)
}

// resolve follows the links in comps, without making anything. The result
// holds no link; unix.ENOENT and ENOTDIR say that there is no such directory.
func (u *unpacker) resolve(comps []string) ([]string, error) {
	w := &pathWalk{look: u.look}
	err := follow(w, comps)
	return w.dir, err
}
