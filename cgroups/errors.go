package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoCgroup2 tells that cgroup v2 is not mounted.
var ErrNoCgroup2 = errors.New("cgroup v2 is not mounted (mount -t cgroup2 none /sys/fs/cgroup)")

// NoControllerError is a limit that cannot be set here.
type NoControllerError struct {
	Controller string
	Reason     string
	Fix        string
}

func (e *NoControllerError) Error() string {
	return fmt.Sprintf("the cgroup v2 controller %q is not available: %s (%s)", e.Controller, e.Reason, e.Fix)
}

// need tells whether containers can have a controller, and if not why.
func (h *Host) need(controller string) error {
	if slices.Contains(h.Controllers, controller) {
		return nil
	}
	e := &NoControllerError{Controller: controller}
	if at := h.oldMount(controller); at != "" {
		e.Reason = "it is mounted as cgroup v1 at " + at
		e.Fix = "boot with systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all"
		return e
	}
	if top, err := os.ReadFile(filepath.Join(h.Mount, "cgroup.controllers")); err == nil && slices.Contains(strings.Fields(string(top)), controller) {
		e.Reason = "it is not delegated to " + h.Dir("")
		e.Fix = "add Delegate=yes to the unit of the session, or run as root"
		return e
	}
	e.Reason = "the kernel does not have it, or it is switched off"
	e.Fix = "see the controllers in /proc/cgroups and cgroup_disable= in /proc/cmdline"
	return e
}

// notHere is a controller that a cgroup did not get from its parent.
func notHere(dir, controller string) error {
	e := &NoControllerError{Controller: controller, Reason: "the parents of " + dir + " do not hand it down",
		Fix: "add it to cgroup.subtree_control there, or Delegate=yes to the unit"}
	if t := cgroupType(dir); strings.Contains(t, "threaded") {
		e.Reason = dir + " is " + t + ", where only cpu, cpuset, perf_event and pids are"
		e.Fix = "use another parent"
	}
	return e
}

// cgroupType is "domain", "threaded", "domain threaded" or "domain invalid";
// empty for the topmost cgroup.
func cgroupType(dir string) string {
	b, _ := os.ReadFile(filepath.Join(dir, "cgroup.type"))
	return strings.TrimSpace(string(b))
}

// WriteError is a value that the kernel did not take.
type WriteError struct {
	Dir, File, Value string
	Reason           string // what the kernel means, as far as it can be told
	Err              error
}

// refused looks at the cgroup while it is there.
func refused(dir, file, value string, err error) error {
	e := &WriteError{Dir: dir, File: file, Value: value, Err: err}
	e.Reason = e.why()
	return e
}

func (e *WriteError) Unwrap() error { return e.Err }

func (e *WriteError) Error() string {
	s := fmt.Sprintf("set %s to %s: %v", e.File, e.Value, e.Err)
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

// why is from cgroup-v2.rst and the sources it describes.
func (e *WriteError) why() string {
	is := func(errno unix.Errno) bool { return errors.Is(e.Err, errno) }
	controller, _, _ := strings.Cut(e.File, ".")
	switch {
	case is(unix.EBUSY) && (e.File == "cgroup.subtree_control" || e.File == "cgroup.procs"):
		return e.Dir + ": a cgroup cannot both hold processes and hand controllers to cgroups below it"
	case is(unix.EOPNOTSUPP) && controller == "cgroup":
		return e.Dir + " is " + cgroupType(e.Dir) + ": it is part of a threaded cgroup, which takes no whole processes and no memory or io controller"
	case is(unix.EINVAL) && e.File == "cpu.weight" && flatValue(e.Dir, "cpu.idle") == "1":
		return "the cgroup is idle, which has no weight: set cpu.idle to 0 first"
	case is(unix.EINVAL) && (e.File == "cpu.max.burst" || e.File == "cpu.max"):
		return "a burst must not be greater than the quota (cpu.max is " + flatValue(e.Dir, "cpu.max") + ", cpu.max.burst " + flatValue(e.Dir, "cpu.max.burst") + ")"
	case is(unix.EOPNOTSUPP) && e.File == "io.weight":
		return "nothing weighs on this device: use the scheduler BFQ (load the module bfq), or switch io.cost on in io.cost.qos of the root cgroup"
	case is(unix.ENODEV) && controller == "io":
		return "there is no such block device, or it is a partition"
	case is(unix.ENOENT) && controller != "cgroup":
		return e.missing(controller)
	}
	return ""
}

// missing explains a file that is not there, though its controller may be.
func (e *WriteError) missing(controller string) string {
	absent, err := lacks(e.Dir, "cgroup.controllers", []string{controller})
	switch {
	case err != nil:
		return ""
	case len(absent) > 0:
		return fmt.Sprintf("controller %q not available", controller)
	case e.File == "memory.swap.max":
		return "the kernel does not account for swap"
	case controller == "hugetlb":
		return "the kernel has no huge pages of this size"
	}
	return "this kernel's controller has no such file"
}

// gone tells that a cgroup was removed while it was looked at.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) }

func flatValue(dir, file string) string {
	b, _ := os.ReadFile(filepath.Join(dir, file))
	return strings.TrimSpace(string(b))
}
