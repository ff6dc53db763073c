// Package cgroups limits and watches groups of processes by cgroup v2
// (Documentation/admin-guide/cgroup-v2.rst). Limits become a Plan, a list of
// files and values, which can be printed before it is applied.
package cgroups

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Host is what this machine, or this container, offers.
type Host struct {
	Mount       string            // where cgroup v2 is mounted
	Own         string            // the caller's cgroup, below Mount
	Parent      string            // below Mount: where cgroups of containers are made, "/" for a whole host
	Controllers []string          // that containers can have
	V1          map[string]string // controller -> mount point of the old hierarchy that holds it
}

// Find looks at the mounts of the caller, once.
func Find() (*Host, error) { return find() }

var find = sync.OnceValues(func() (*Host, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find the cgroup mount: %w", err)
	}
	h, err := parseMounts(string(mounts))
	if err != nil {
		return nil, err
	}
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

// parseMounts finds the cgroup mounts in /proc/PID/mountinfo (proc_pid_mountinfo(5)).
func parseMounts(mountinfo string) (*Host, error) {
	h := &Host{V1: map[string]string{}}
	sc := bufio.NewScanner(strings.NewReader(mountinfo))
	for sc.Scan() {
		left, right, ok := strings.Cut(sc.Text(), " - ")
		f, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(f) < 5 || len(r) < 3 {
			continue
		}
		switch r[0] {
		case "cgroup2":
			if h.Mount == "" || len(f[4]) < len(h.Mount) {
				h.Mount = f[4]
			}
		case "cgroup":
			for _, o := range strings.Split(r[2], ",") {
				if o != "rw" && o != "ro" && !strings.Contains(o, "=") {
					h.V1[o] = f[4]
				}
			}
		}
	}
	if h.Mount == "" {
		return nil, ErrNoCgroup2
	}
	return h, nil
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
