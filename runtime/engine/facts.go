package engine

import (
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/cgroups"
	"github.com/berth-run/berth/mountinfo"
	"github.com/berth-run/berth/rootfs"
	"github.com/berth-run/berth/runtime/step"
)

// facts is what a decision asks of this host.
type facts interface {
	rootfs.Facts
	// LastCap is the highest capability of the kernel.
	LastCap() int
	// Privileged tells that the caller may do what root of the initial user
	// namespace may.
	Privileged() bool
	// Rights tells that the caller has CAP_SYS_ADMIN in its own user namespace.
	Rights() bool
	// KernelMounts are the mount points of proc and sysfs, the last mounted first.
	KernelMounts() []string
	// Cgroups is where cgroup v2 is mounted, "" if it is not.
	Cgroups() string
}

type host struct {
	made []string
	root string // of a bundle
}

func newHost(c *Config) host {
	h := host{made: c.Made}
	if c.Rootfs != nil {
		h.root = c.Rootfs.Dir()
	}
	return h
}

// Cgroups is asked of package cgroups, and of a plan for a new container only.
func (host) Cgroups() string {
	h, err := cgroups.Find()
	if err != nil {
		return ""
	}
	return h.Mount
}

// Kind implements rootfs.Facts.
func (h host) Kind(path string) byte {
	if slices.Contains(h.made, path) {
		return 'f'
	}
	if slices.Contains(h.made, path+"/") {
		return 'd'
	}
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return 'd'
	}
	return 'f'
}

// PageSize implements rootfs.Facts.
func (host) PageSize() int { return os.Getpagesize() }

// LayersOneByOne implements rootfs.Facts.
func (host) LayersOneByOne() bool { return LayersOneByOne() }

// LayersOneByOne tells whether overlayfs takes a layer with each lowerdir+ (Linux
// 6.8). It adds one and mounts nothing. A kernel before 6.5 takes any option
// and looks at them later, so it must refuse one that there cannot be. Who may
// not ask, as the container's process may, says yes.
func LayersOneByOne() bool {
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err == unix.EPERM
	}
	defer unix.Close(fd)
	return unix.FsconfigSetString(fd, "lowerdir+", "/") == nil && unix.FsconfigSetString(fd, "no such option", "/") != nil
}

// LastCap reads /proc/sys/kernel/cap_last_cap (capabilities(7), Linux 3.2).
func (host) LastCap() int {
	b, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return step.LastCap
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return step.LastCap
	}
	return n
}

// Privileged: root, and not of a user namespace.
func (host) Privileged() bool {
	if os.Geteuid() != 0 {
		return false
	}
	b, err := os.ReadFile("/proc/self/uid_map")
	f := strings.Fields(string(b))
	return err == nil && len(f) == 3 && f[0] == "0" && f[1] == "0"
}

// Rights asks capget(2).
func (host) Rights() bool {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	return unix.Capget(&h, &d[0]) == nil && d[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// KernelMounts reads /proc/self/mountinfo.
func (host) KernelMounts() []string {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	var out []string
	for m := range mountinfo.All(string(b)) {
		if m.Type == "proc" || m.Type == "sysfs" {
			out = append(out, m.Point)
		}
	}
	slices.Reverse(out)
	return out
}

const maxLinks = 40 // as the kernel has it (path_resolution(7))

// Inside implements rootfs.Facts. It reads links one by one, each below the
// root, so that a target which is not there yet has a path, too; the steps that
// use it resolve it again with RESOLVE_IN_ROOT.
func (h host) Inside(name string) (resolved string, mode uint32, there bool) {
	name = path.Clean("/" + name)
	if h.root == "" {
		return name, 0, false
	}
	root, err := unix.Open(h.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return name, 0, false
	}
	defer unix.Close(root)
	done, rest := "/", strings.Split(name[1:], "/")
	for links := 0; len(rest) > 0 && links < maxLinks; {
		next := path.Join(done, rest[0])
		target, ok := readLink(root, next)
		if !ok {
			done, rest = next, rest[1:]
			continue
		}
		links++
		if path.IsAbs(target) {
			done = "/"
		}
		// ".." of a link is resolved from what is done, never above the root
		rest = append(strings.Split(strings.Trim(target, "/"), "/"), rest[1:]...)
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT}
	fd, err := unix.Openat2(root, strings.TrimPrefix(done, "/")+"/.", &how)
	if err == unix.ENOTDIR || err == unix.ENOENT {
		fd, err = unix.Openat2(root, "."+done, &how)
	}
	if err != nil {
		return done, 0, false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return done, 0, false
	}
	return done, st.Mode, true
}

func readLink(root int, name string) (string, bool) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_IN_ROOT}
	fd, err := unix.Openat2(root, "."+name, &how)
	if err != nil {
		return "", false
	}
	defer unix.Close(fd)
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(fd, "", buf[:])
	return string(buf[:max(n, 0)]), err == nil
}
