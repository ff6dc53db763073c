package runtime

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// mapIDs gives the user namespace its ids where the caller is not privileged:
// one id of its own it may map itself, more only with the set-uid programs
// newuidmap and newgidmap, by what /etc/subuid allows (user_namespaces(7),
// newuidmap(1)). nil: the engine writes them.
func (m *maker) mapIDs() func(pid int, l *specs.Linux) error {
	if os.Geteuid() == 0 {
		return nil
	}
	single := func(list []specs.LinuxIDMapping, own int) bool {
		return len(list) == 1 && list[0].Size == 1 && int(list[0].HostID) == own
	}
	l := m.spec.Linux
	if len(l.GIDMappings) > 0 && single(l.GIDMappings, os.Getegid()) {
		m.state.NoSetgroups, m.config.NoSetgroups = true, true
	}
	return func(pid int, l *specs.Linux) error {
		if single(l.GIDMappings, os.Getegid()) {
			if err := os.WriteFile(fmt.Sprintf("/proc/%d/setgroups", pid), []byte("deny"), 0); err != nil {
				return fmt.Errorf("forbid setgroups: %w", err)
			}
		}
		if err := mapBy("newuidmap", pid, "uid_map", l.UIDMappings, single(l.UIDMappings, os.Geteuid())); err != nil {
			return err
		}
		return mapBy("newgidmap", pid, "gid_map", l.GIDMappings, single(l.GIDMappings, os.Getegid()))
	}
}

func mapBy(program string, pid int, file string, list []specs.LinuxIDMapping, self bool) error {
	args := []string{strconv.Itoa(pid)}
	for _, e := range list {
		args = append(args, fmt.Sprint(e.ContainerID), fmt.Sprint(e.HostID), fmt.Sprint(e.Size))
	}
	if self {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, file), []byte(strings.Join(args[1:], " ")), 0); err != nil {
			return fmt.Errorf("map ids of the user namespace: %w", err)
		}
		return nil
	}
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("map ids of the user namespace: %s: %w: %s (package uidmap, /etc/subuid, /etc/subgid)", program, err, strings.TrimSpace(string(out)))
	}
	return nil
}
