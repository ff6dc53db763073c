package engine

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// HostIDs are the user and group that the container's process has outside, -1
// for one that its user namespace does not map.
func (c *Config) HostIDs() (uid, gid int) {
	u := c.Spec.Process.User
	n, own := Namespace(c.Spec.Linux, specs.UserNamespace)
	if !own || n.Path != "" {
		return int(u.UID), int(u.GID)
	}
	return HostID(c.Spec.Linux.UIDMappings, u.UID), HostID(c.Spec.Linux.GIDMappings, u.GID)
}

// HostID is what an id of a user namespace is outside of it, -1 if nothing.
func HostID(mappings []specs.LinuxIDMapping, id uint32) int {
	for _, m := range mappings {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return int(m.HostID + (id - m.ContainerID))
		}
	}
	return -1
}
