package engine

import (
	"fmt"
	"os"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/rootfs"
	"github.com/berth-run/berth/runtime/child"
	"github.com/berth-run/berth/runtime/step"
)

// takeTrees takes the trees that the container's processes may not, and hands
// them over as descriptors.
func (l *launch) takeTrees() error {
	for _, t := range l.plan.takes {
		fd, err := l.take(t)
		if err != nil {
			return fmt.Errorf("error mounting %q to rootfs at %q: %w", t.Path, t.Target, err)
		}
		l.open.fds = append(l.open.fds, fd)
		if err := l.open.give(&file{arg: t.FD}, fd); err != nil {
			return err
		}
	}
	return nil
}

func (l *launch) take(t *rootfs.Take) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	rec := uint(0)
	if t.Recursive {
		rec = unix.AT_RECURSIVE
	}
	if t.NoFollow {
		flags |= unix.AT_SYMLINK_NOFOLLOW
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, t.Path, flags|rec)
	if err != nil {
		return -1, fmt.Errorf("open_tree: %w", err)
	}
	if err = l.attrs(fd, t, rec); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (l *launch) attrs(fd int, t *rootfs.Take, rec uint) error {
	top := t.Top
	if _, user := Namespace(l.plan.config.Spec.Linux, specs.UserNamespace); user {
		var err error
		if top, err = locked(fd, t); err != nil {
			return err
		}
	}
	var cut step.MountAttr
	if t.Slave {
		cut.Propagation = unix.MS_SLAVE
	}
	for _, s := range []struct {
		attr step.MountAttr
		rec  uint
	}{{top, 0}, {cut, rec}, {t.All, rec}} {
		if s.attr == (step.MountAttr{}) {
			continue
		}
		a := unix.MountAttr{Attr_set: s.attr.Set, Attr_clr: s.attr.Clear, Propagation: s.attr.Propagation}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|s.rec, &a); err != nil {
			return fmt.Errorf("mount_setattr: %w", err)
		}
	}
	if t.Map == nil {
		return nil
	}
	return l.idmap(fd, t, rec)
}

func (l *launch) idmap(fd int, t *rootfs.Take, rec uint) error {
	ns, err := l.mapping(t.Map)
	if err != nil {
		return err
	}
	a := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())}
	if !t.Map.Recursive {
		rec = 0
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|rec, &a); err != nil {
		return fmt.Errorf("map the owners of files: mount_setattr: %w", err)
	}
	return nil
}

// mapTree maps the owners of a tree that the child has taken and not placed yet:
// both have descriptors of the same.
func (l *launch) mapTree(m rootfs.MapHere) error {
	n, ok := l.child.Result(m.Tree)
	if !ok || n < 0 {
		return fmt.Errorf("the container's process has not taken %s", m.Path)
	}
	fd, err := unix.PidfdGetfd(int(l.pidfd.Fd()), int(n), 0)
	if err != nil {
		return fmt.Errorf("pidfd_getfd: %w", err)
	}
	defer unix.Close(fd)
	rec := uint(0)
	if m.Recursive {
		rec = unix.AT_RECURSIVE
	}
	if err := l.idmap(fd, m.Take, rec); err != nil {
		return fmt.Errorf("error mounting %q to rootfs at %q: %w", m.Path, m.Target, err)
	}
	return nil
}

// locked: flags which protect the host stay in another user namespace, as they
// would if the mount were made there (mount_namespaces(7), "Restrictions on mount
// namespaces"): asking for their absence is refused.
func locked(fd int, t *rootfs.Take) (step.MountAttr, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return t.Top, fmt.Errorf("fstatfs: %w", err)
	}
	top := t.Top
	for _, f := range [...]struct {
		has  int64
		attr uint64
	}{{unix.ST_RDONLY, unix.MOUNT_ATTR_RDONLY}, {unix.ST_NOSUID, unix.MOUNT_ATTR_NOSUID},
		{unix.ST_NODEV, unix.MOUNT_ATTR_NODEV}, {unix.ST_NOEXEC, unix.MOUNT_ATTR_NOEXEC}} {
		if st.Flags&f.has == 0 {
			continue
		}
		if t.Named&f.attr != 0 {
			return top, unix.EPERM
		}
		top.Clear &^= f.attr
	}
	if top.Clear&unix.MOUNT_ATTR__ATIME != 0 && atime(st.Flags) != top.Set&unix.MOUNT_ATTR__ATIME {
		return top, unix.EPERM
	}
	return top, nil
}

// atime is the MOUNT_ATTR_* of how a mount keeps access times.
func atime(flags int64) uint64 {
	switch {
	case flags&unix.ST_NOATIME != 0:
		return unix.MOUNT_ATTR_NOATIME
	case flags&unix.ST_RELATIME != 0:
		return unix.MOUNT_ATTR_RELATIME
	}
	return unix.MOUNT_ATTR_STRICTATIME
}

// mapping is a user namespace with these ids: nobody will be in it.
func (l *launch) mapping(m *rootfs.IDMap) (*os.File, error) {
	uids, gids := m.UIDs, m.GIDs
	if len(uids)+len(gids) == 0 {
		n, ok := Namespace(l.plan.config.Spec.Linux, specs.UserNamespace)
		if !ok {
			return nil, fmt.Errorf("an id-mapped mount without mappings, in a container without user namespace")
		}
		if n.Path != "" {
			return l.keep(os.Open(n.Path))
		}
		uids, gids = l.plan.config.Spec.Linux.UIDMappings, l.plan.config.Spec.Linux.GIDMappings
	}
	h, err := newHolder(unix.CLONE_NEWUSER)
	if err != nil {
		return nil, err
	}
	defer h.end()
	if err := writeMappings(h.p.Pid, uids, gids); err != nil {
		return nil, err
	}
	return l.keep(os.Open(fmt.Sprintf("/proc/%d/ns/user", h.p.Pid)))
}

func (l *launch) keep(f *os.File, err error) (*os.File, error) {
	if err == nil {
		l.maps = append(l.maps, f)
	}
	return f, err
}

// writeMappings writes the ids of a user namespace (user_namespaces(7)).
func writeMappings(pid int, uids, gids []specs.LinuxIDMapping) error {
	for _, m := range []struct {
		file string
		list []specs.LinuxIDMapping
	}{{"uid_map", uids}, {"gid_map", gids}} {
		var b strings.Builder
		for _, e := range m.list {
			fmt.Fprintf(&b, "%d %d %d\n", e.ContainerID, e.HostID, e.Size)
		}
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, m.file), []byte(b.String()), 0); err != nil {
			return fmt.Errorf("map ids of the user namespace: %w", err)
		}
	}
	return nil
}

// holder is a process that does nothing but be there, in some kilobytes.
type holder struct{ p *child.Process }

func newHolder(flags uint64) (*holder, error) {
	plan := &step.Plan{CloneFlags: flags}
	plan.Add(step.LeaveMemory{}, step.Pause{})
	p, err := child.Start(plan, child.Options{})
	if err != nil {
		return nil, err
	}
	return &holder{p}, nil
}

// end kills and reaps it.
func (h *holder) end() {
	unix.PidfdSendSignal(int(h.p.Pidfd.Fd()), unix.SIGKILL, nil, 0)
	var ws unix.WaitStatus
	for {
		if _, err := unix.Wait4(h.p.Pid, &ws, 0, nil); err != unix.EINTR {
			break
		}
	}
	h.p.Pidfd.Close()
	h.p.Release()
}
