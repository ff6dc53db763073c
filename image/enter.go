package image

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A node is one open directory on the way to the entry that is being unpacked.
type node struct {
	fd    int
	name  string
	path  string // from the layer's root, without links; "" for the root
	bare  bool   // nothing of the layers below shows in it
	mtime [2]unix.Timespec
	dirty bool // its times have to be put back when we leave it
}

func (n *node) join(name string) string {
	if n.path == "" {
		return name
	}
	return n.path + "/" + name
}

// touch is called before names in the directory change: leaving it restores
// its times, so that no list of directories is kept until the end, which a
// stranger could make as long as he likes.
func (n *node) touch() error {
	if n.dirty {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(n.fd, &st); err != nil {
		return err
	}
	n.mtime = [2]unix.Timespec{st.Atim, st.Mtim}
	n.dirty = true
	return nil
}

func (u *unpacker) top() *node { return &u.stack[len(u.stack)-1] }

// leave closes directories until only n are open.
func (u *unpacker) leave(n int) error {
	var first error
	for len(u.stack) > n {
		t := u.top()
		if t.dirty {
			if err := futimens(t.fd, t.mtime); err != nil && first == nil {
				first = fmt.Errorf("set times of %q: %w", brief(t.path), err)
			}
		}
		unix.Close(t.fd)
		u.stack = u.stack[:len(u.stack)-1]
	}
	return first
}

func (u *unpacker) push(fd int, name string, bare bool) {
	t := u.top()
	u.stack = append(u.stack, node{fd: fd, name: name, path: t.join(name), bare: bare})
}

// enter makes the directory comps the top of the stack. Names are taken one
// by one from an open directory with O_NOFOLLOW. Directories that are missing in
// this layer are made, with the mode and owner of those below.
func (u *unpacker) enter(comps []string) error {
	keep := 1
	for keep < len(u.stack) && keep <= len(comps) && u.stack[keep].name == comps[keep-1] {
		keep++
	}
	if err := u.leave(keep); err != nil {
		return err
	}
	return follow(u, comps[keep-1:])
}

func (u *unpacker) up() error      { return u.leave(max(1, len(u.stack)-1)) }
func (u *unpacker) restart() error { return u.leave(1) }

const dirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// down opens or makes the directory name, or returns the target of the link that it is.
func (u *unpacker) down(name string) (target string, err error) {
	t := u.top()
	if len(t.path)+1+len(name) >= maxPath {
		return "", fmt.Errorf("parent %q: %w", brief(t.path), unix.ENAMETOOLONG)
	}
	fd, err := unix.Openat(t.fd, name, dirFlags, 0)
	switch err {
	case nil:
		u.push(fd, name, t.bare || u.opaque && isOpaque(fd, u.xattr))
		return "", nil
	case unix.ENOENT:
		return u.downBelow(name)
	case unix.ENOTDIR, unix.ELOOP:
	default:
		return "", fmt.Errorf("open parent %q: %w", brief(t.join(name)), err)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(t.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return "", fmt.Errorf("parent %q: %w", brief(t.join(name)), err)
	}
	switch {
	case isLink(&st):
		return readlinkat(t.fd, name)
	case isWhiteout(&st): // removed and made again without saying so: it starts empty
		return "", u.makeDir(name, true)
	}
	return "", fmt.Errorf("parent %q: %w", brief(t.join(name)), unix.ENOTDIR)
}

// downBelow handles a parent that this layer does not have. The layers
// below decide: image-spec says nothing of it, but an upper layer without an
// entry for the directory must not change it.
func (u *unpacker) downBelow(name string) (target string, err error) {
	t := u.top()
	if t.bare {
		return "", u.makeDir(name, true)
	}
	ts, err := u.below()
	if err != nil {
		return "", err
	}
	path := t.join(name)
	st, in, err := ts.look(path, u.xattr)
	switch {
	case err == unix.ENOENT:
		return "", u.makeDir(name, true)
	case err != nil:
		return "", err
	case isLink(&st):
		return in.readlink(path)
	case !isDir(&st):
		return "", fmt.Errorf("parent %q: %w", brief(path), unix.ENOTDIR)
	}
	if err := u.makeDir(name, false); err != nil {
		return "", err
	}
	from, err := in.openat(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return "", fmt.Errorf("open lower %q: %w", brief(path), err)
	}
	defer unix.Close(from)
	u.top().mtime = [2]unix.Timespec{st.Atim, st.Mtim}
	if err := copyMeta(from, u.top().fd); err != nil {
		return "", fmt.Errorf("copy attributes of lower %q: %w", brief(path), err)
	}
	return "", nil
}

// makeDir makes the directory name, enters it, and marks it opaque if it
// takes the place of a whiteout. empty: nothing below shows in it.
func (u *unpacker) makeDir(name string, empty bool) error {
	t := u.top()
	path := t.join(name)
	opaque, err := u.mkdir(t, name)
	if err != nil {
		return fmt.Errorf("make parent %q: %w", brief(path), err)
	}
	fd, err := unix.Openat(t.fd, name, dirFlags, 0)
	if err != nil {
		return fmt.Errorf("open parent %q: %w", brief(path), err)
	}
	u.push(fd, name, empty || opaque || t.bare)
	n := u.top()
	if opaque {
		if err := u.setOpaque(fd); err != nil {
			return err
		}
	}
	if err := u.chown(fd, 0, 0); err != nil {
		return fmt.Errorf("make parent %q: %w", brief(path), err)
	}
	if err := unix.Fchmod(fd, 0o755); err != nil {
		return fmt.Errorf("make parent %q: %w", brief(path), err)
	}
	// Not the time of the unpacking, so that the same layer always gives the same tree.
	n.mtime, n.dirty = [2]unix.Timespec{}, true
	return nil
}

// mkdir makes name in t, in place of what this layer has there. opaque: what
// lay there hid the directory below, and so must the new one.
func (u *unpacker) mkdir(t *node, name string) (opaque bool, err error) {
	if err := t.touch(); err != nil {
		return false, err
	}
	err = unix.Mkdirat(t.fd, name, 0o700)
	if err == unix.EEXIST {
		if err := u.clear(t, name); err != nil {
			return false, err
		}
		return !t.bare, unix.Mkdirat(t.fd, name, 0o700)
	}
	return false, err
}

func (u *unpacker) setOpaque(fd int) error {
	u.opaque = true
	if err := unix.Fsetxattr(fd, u.xattr+"opaque", []byte("y"), 0); err != nil {
		return fmt.Errorf("mark directory as opaque: %w", err)
	}
	return nil
}

// clear takes away what this layer has unpacked at name. Content that the
// recipe counts on moves to old/N.
func (u *unpacker) clear(t *node, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(t.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if err := t.touch(); err != nil {
		return err
	}
	if !isDir(&st) && !isReg(&st) {
		return unix.Unlinkat(t.fd, name, 0)
	}
	if err := unix.Renameat(t.fd, name, u.old, fmt.Sprint(len(u.moves))); err != nil {
		return err
	}
	u.moves = append(u.moves, move{t.join(name), u.files})
	return nil
}
