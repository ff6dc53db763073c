package container

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// device is a node made in the container and the rule that lets it be used.
type device struct {
	node   specs.LinuxDevice
	access string
}

// parseDevice reads --device HOST[:CONTAINER][:rwm] into its parts.
func parseDevice(spec string) (host, ctr, access string, err error) {
	f := strings.Split(spec, ":")
	access = "rwm"
	if n := len(f); n > 1 && !strings.HasPrefix(f[n-1], "/") {
		access, f = f[n-1], f[:n-1]
		if access == "" || strings.Trim(access, "rwm") != "" {
			return "", "", "", fmt.Errorf("invalid --device %q: access %q must be of r, w and m", spec, access)
		}
	}
	switch len(f) {
	case 1:
		host, ctr = f[0], f[0]
	case 2:
		host, ctr = f[0], f[1]
	default:
		return "", "", "", fmt.Errorf("invalid --device %q", spec)
	}
	if !strings.HasPrefix(host, "/") || !strings.HasPrefix(ctr, "/") {
		return "", "", "", fmt.Errorf("invalid --device %q: paths must be absolute", spec)
	}
	return host, filepath.Clean(ctr), access, nil
}

// hostDevices looks at the host's nodes; a folder stands for all in it.
func hostDevices(list []string) ([]device, error) {
	var all []device
	for _, spec := range list {
		host, ctr, access, err := parseDevice(spec)
		if err != nil {
			return nil, err
		}
		real, err := filepath.EvalSymlinks(host)
		if err != nil {
			return nil, fmt.Errorf("--device %s: %w", spec, err)
		}
		found := 0
		err = eachDevice(real, func(path string, st *unix.Stat_t) {
			found++
			all = append(all, device{nodeOf(ctr+strings.TrimPrefix(path, real), st), access})
		})
		if err != nil {
			return nil, fmt.Errorf("--device %s: %w", spec, err)
		}
		if found == 0 {
			return nil, fmt.Errorf("--device %s: not a device node", spec)
		}
	}
	return all, nil
}

// privilegedDevices are all nodes below /dev but the terminals and what the
// container has of its own.
func privilegedDevices() []device {
	var all []device
	eachDevice("/dev", func(path string, st *unix.Stat_t) {
		switch top, _, _ := strings.Cut(strings.TrimPrefix(path, "/dev/"), "/"); top {
		case "pts", "shm", "mqueue", "fd", "console", "ptmx", "null", "zero", "full", "random", "urandom", "tty":
			return
		}
		all = append(all, device{nodeOf(path, st), "rwm"})
	})
	return all
}

func eachDevice(path string, f func(string, *unix.Stat_t)) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK:
		f(path, &st)
	case unix.S_IFDIR:
		entries, err := os.ReadDir(path) // sorted
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.IsDir() && (e.Name() == "pts" || e.Name() == "shm" || e.Name() == "mqueue") {
				continue
			}
			if e.IsDir() || e.Type()&os.ModeDevice != 0 {
				eachDevice(path+"/"+e.Name(), f) // gone meanwhile: fine
			}
		}
	}
	return nil
}

func nodeOf(path string, st *unix.Stat_t) specs.LinuxDevice {
	typ := "c"
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		typ = "b"
	}
	mode := os.FileMode(st.Mode & 0o777)
	uid, gid := st.Uid, st.Gid
	return specs.LinuxDevice{Path: path, Type: typ, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		FileMode: &mode, UID: &uid, GID: &gid}
}

// deviceRules is the filter: everything denied but making nodes, the devices
// that each container has, and those asked for.
func deviceRules(privileged bool, extra []device) []specs.LinuxDeviceCgroup {
	if privileged {
		return []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	}
	rule := func(typ string, major, minor int64, access string) specs.LinuxDeviceCgroup {
		r := specs.LinuxDeviceCgroup{Allow: true, Type: typ, Access: access}
		if major >= 0 {
			r.Major = &major
		}
		if minor >= 0 {
			r.Minor = &minor
		}
		return r
	}
	rules := []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		rule("c", -1, -1, "m"), rule("b", -1, -1, "m"),
		rule("c", 1, 3, "rwm"),    // null
		rule("c", 1, 5, "rwm"),    // zero
		rule("c", 1, 7, "rwm"),    // full
		rule("c", 1, 8, "rwm"),    // random
		rule("c", 1, 9, "rwm"),    // urandom
		rule("c", 5, 0, "rwm"),    // tty
		rule("c", 5, 2, "rwm"),    // ptmx
		rule("c", 136, -1, "rwm"), // pts
	}
	for _, d := range extra {
		rules = append(rules, rule(d.node.Type, d.node.Major, d.node.Minor, d.access))
	}
	return rules
}
