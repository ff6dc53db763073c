// Package rootfs knows what a container finds below its /: the root itself,
// the mounts of the OCI spec, devices, hidden and read-only paths. It decides;
// what it gives are steps for the plan.
package rootfs

import (
	"path"
	"slices"

	"github.com/berth-run/berth/runtime/step"
)

// Root is where the root file system comes from.
type Root interface {
	// Step mounts it and opens it as root.
	Step(root *step.Result) step.Step
	// Dir is its path on the host, in which mounts may have their sources; "" if
	// it is not there before the start.
	Dir() string
}

// Overlay is an image's layers under a directory of the container's own. The
// mount exists only in the container's mount namespace: when its last process
// ends, nothing is left to unmount.
type Overlay struct {
	Base        string   // absolute; the other paths are relative to it
	Lower       []string // lowest first
	Upper, Work string   // siblings; their parent is the mount point
	UserXattr   bool     // where the mounter may not set trusted.* attributes (Linux 5.11)

	// Volatile leaves out all syncs: without it the end of the last mount writes
	// out every dirty page of the file system that Upper lies on, whoever wrote
	// it (Documentation/filesystems/overlayfs.rst, Linux 5.10).
	Volatile bool
}

// Step implements Root.
func (o Overlay) Step(root *step.Result) step.Step {
	lower := slices.Clone(o.Lower)
	slices.Reverse(lower)
	return step.Overlay{Base: o.Base, Lower: lower, Upper: o.Upper, Work: o.Work,
		UserXattr: o.UserXattr, Volatile: o.Volatile, Target: path.Dir(o.Upper), Root: root}
}

// Dir implements Root.
func (Overlay) Dir() string { return "" }

// Bundle is a directory that is the root as it is, as an OCI bundle has it.
type Bundle struct{ Path string }

// Step implements Root.
func (b Bundle) Step(root *step.Result) step.Step { return step.BindRoot{Path: b.Path, Root: root} }

// Dir implements Root.
func (b Bundle) Dir() string { return b.Path }
