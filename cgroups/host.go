// Package cgroups limits and watches groups of processes by cgroup v2
// (Documentation/admin-guide/cgroup-v2.rst). Limits become a Plan, a list of
// files and values, which can be printed before it is applied.
package cgroups

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/mountinfo"
)

// Host is what this machine, or this container, offers.
type Host struct {
	Mount       string   // where cgroup v2 is mounted
	Own         string   // the caller's cgroup, below Mount
	Parent      string   // below Mount: where cgroups of containers are made, "/" for a whole host
	Controllers []string // that containers can have

	mountinfo func() string // the caller's mounts, for explanations; nil: none
}

// Find looks at the mounts of the caller, once.
func Find() (*Host, error) { return find() }

var find = sync.OnceValues(func() (*Host, error) {
	mount, err := findMount()
	if err != nil {
		return nil, err
	}
	h := &Host{Mount: mount, mountinfo: ownMounts}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find the own cgroup: %w", err)
	}
	h.Own = unified(string(own))
	h.Parent = parent(h.Own, os.Geteuid() == 0)
	list, err := os.ReadFile(filepath.Join(h.Mount, h.Parent, "cgroup.controllers"))
	if err != nil {
		return nil, fmt.Errorf("read the controllers: %w", err)
	}
	h.Controllers = strings.Fields(string(list))
	return h, nil
})

// findMount looks at the two usual places first, the second of which is systemd's
// on hybrid hosts: the list of all mounts is long to make and to read.
func findMount() (string, error) {
	for _, dir := range [...]string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var fs unix.Statfs_t
		if unix.Statfs(dir, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir, nil
		}
	}
	mount, _ := parseMounts(ownMounts())
	if mount == "" {
		return "", ErrNoCgroup2
	}
	return mount, nil
}

func ownMounts() string {
	b, _ := os.ReadFile("/proc/self/mountinfo") // without /proc there is no cgroup to be found
	return string(b)
}

// parseMounts finds the cgroup mounts in a list of mounts: that of v2, "" if there
// is none, and the mount points of v1 by controller.
func parseMounts(list string) (v2 string, v1 map[string]string) {
	v1 = map[string]string{}
	for m := range mountinfo.All(list) {
		switch m.Type {
		case "cgroup2":
			if v2 == "" || len(m.Point) < len(v2) {
				v2 = m.Point
			}
		case "cgroup":
			for _, o := range strings.Split(m.Options, ",") {
				if o != "rw" && o != "ro" && !strings.Contains(o, "=") {
					v1[o] = m.Point
				}
			}
		}
	}
	return v2, v1
}

// oldMount is where a controller is mounted as v1, "" if it is not.
func (h *Host) oldMount(controller string) string {
	if h.mountinfo == nil {
		return ""
	}
	_, v1 := parseMounts(h.mountinfo())
	return v1[controller]
}

// unified is the cgroup in /proc/PID/cgroup (cgroups(7)).
func unified(file string) string {
	for _, line := range strings.Split(file, "\n") {
		if p, ok := strings.CutPrefix(line, "0::"); ok {
			return filepath.Clean("/" + p)
		}
	}
	return "/"
}

// parent: root makes cgroups at the top, as docker and runc do; another user
// only below the cgroup that was delegated to the session.
func parent(own string, root bool) string {
	if root {
		return "/"
	}
	return filepath.Dir(own) // beside the caller's: no inner node may hold processes
}

// Dir is the directory of a cgroup, which need not exist.
func (h *Host) Dir(path string) string { return filepath.Join(h.Mount, h.Parent, path) }
