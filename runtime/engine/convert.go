package engine

import (
	"fmt"
	"maps"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-run/berth/runtime/step"
)

func sorted(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// Namespace is the one of a kind, if there is one.
func Namespace(l *specs.Linux, t specs.LinuxNamespaceType) (specs.LinuxNamespace, bool) {
	for _, n := range l.Namespaces {
		if n.Type == t {
			return n, true
		}
	}
	return specs.LinuxNamespace{}, false
}

// cloneFlag is the CLONE_NEW* of a namespace of the spec, 0 for one unknown.
func cloneFlag(t specs.LinuxNamespaceType) uint64 {
	switch t {
	case specs.PIDNamespace:
		return unix.CLONE_NEWPID
	case specs.NetworkNamespace:
		return unix.CLONE_NEWNET
	case specs.MountNamespace:
		return unix.CLONE_NEWNS
	case specs.IPCNamespace:
		return unix.CLONE_NEWIPC
	case specs.UTSNamespace:
		return unix.CLONE_NEWUTS
	case specs.UserNamespace:
		return unix.CLONE_NEWUSER
	case specs.CgroupNamespace:
		return unix.CLONE_NEWCGROUP
	case specs.TimeNamespace:
		return unix.CLONE_NEWTIME
	}
	return 0
}

// rlimits of a container. A soft limit of open files that nobody asked for is
// 1024, as a login has it: Go raises its own to the hard limit, and programs
// that use select(2) break above (getrlimit(2)).
func rlimits(list []specs.POSIXRlimit) ([]step.Step, error) {
	var out []step.Step
	files := false
	for _, l := range list {
		n, ok := rlimitNumber(l.Type)
		if !ok {
			return nil, fmt.Errorf("unknown resource limit %q", l.Type)
		}
		files = files || n == unix.RLIMIT_NOFILE
		out = append(out, step.Rlimit{Name: l.Type, Resource: n, Soft: l.Soft, Hard: l.Hard})
	}
	if !files {
		var cur unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &cur); err != nil {
			return nil, fmt.Errorf("read RLIMIT_NOFILE: %w", err)
		}
		out = append(out, step.Rlimit{Name: "RLIMIT_NOFILE", Resource: unix.RLIMIT_NOFILE, Soft: min(1024, cur.Max), Hard: cur.Max})
	}
	return out, nil
}

// rlimitNumber: order of asm-generic/resource.h.
func rlimitNumber(name string) (int, bool) {
	for i, n := range [...]string{"CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS",
		"LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"} {
		if name == "RLIMIT_"+n {
			return i, true
		}
	}
	return 0, false
}
